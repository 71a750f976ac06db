"""Between worker threads and the window: results are carried over, and workers end in time."""
