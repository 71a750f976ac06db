"""The exact minimum of a CRF by maximum flow, for more than two classes by alpha-expansion.

``minimum`` in :mod:`napari_structseg.refine.graph_cut.minimum` is the door.
"""
