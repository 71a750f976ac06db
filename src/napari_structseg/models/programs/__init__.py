"""Programs of other origin: their archives checked, opened without running Python, and run."""
