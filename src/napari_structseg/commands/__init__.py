"""What `structseg` can do, one module for each command. torch is imported inside the functions."""
