"""What all work has in common that counts voxels."""

from __future__ import annotations

from napari_structseg.render.rendering import Renderer
from napari_structseg.session.work.ledger import Ledger


class CountingWork:
    """Renders, counts voxels, and notes what it has delivered.

    Parameters
    ----------
    renderer
        Of the distribution.
    voxel_volume_ml
        Volume of a voxel in mL.
    ledger
        What has been delivered.
    """

    def __init__(self, renderer: Renderer, voxel_volume_ml: float, ledger: Ledger) -> None:
        self._renderer = renderer
        self._voxel_volume_ml = voxel_volume_ml
        self._ledger = ledger
