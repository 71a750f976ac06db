"""Seeded fuzzing of what comes in: short in the tests, long as ``python -m tests.fuzz``."""
