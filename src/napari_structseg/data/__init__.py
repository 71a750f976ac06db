"""Data sets: which files and arrays belong to a case, read and checked once for all who need them.

Training and evaluation both read through here; what they do with a case is theirs.
"""
