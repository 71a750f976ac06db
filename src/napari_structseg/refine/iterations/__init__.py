"""How mean field goes over a whole image: slab by slab, the visible one first.

Every iteration is kept.

Arrays and their updates. What a solver is, and settings, are one room up.
"""
