"""The steps behind a request, and the ledger of what was delivered.

Each module makes one part of the picture, in small steps. No threads: the engine owns those.
"""
