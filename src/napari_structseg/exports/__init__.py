"""What leaves the program in other forms than NIfTI: reports, and files of other programs."""
