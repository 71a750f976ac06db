"""What the controls of mean field are called, and what they do, in one sentence each."""

from __future__ import annotations

from napari_structseg.controls import Controls, Coupling
from napari_structseg.priors import Update
from napari_structseg.refine.changes import Changes

# What the descriptions of the controls leave out.
_FORMULAS = {
    "iterations": "Each sets R to softmax(U + s·M(R)): what the model says of a voxel, and what "
    "its neighbours say.",
    "mrf_strength": "It is s in softmax(U + s·M(R)).",
    "damping": "Each step gives w·softmax(U + s·M(R)) + (1 − w)·R; proximal steps do without.",
    "update_rule": "",
}
UPDATES: dict[Update, tuple[str, str]] = {
    "parallel": (
        "Parallel",
        "All voxels at once, from the same neighbours: R becomes softmax(U + s·M(R)); fast, but "
        "it may oscillate.",
    ),
    "proximal": (
        "Proximal",
        "All voxels at once, held back where they are: R becomes softmax((U + s·M(R) + "
        "τ·log R) / (1 + τ)), which lowers the free energy of an MRF that has one.",
    ),
    "coloured": (
        "Coloured",
        "One set of voxels that are not neighbours after the other, each from the latest of "
        "its neighbours: the free energy of an MRF that has one never rises.",
    ),
}
COUPLINGS: dict[Coupling, tuple[str, str]] = {
    "mrf": ("MRF", "Neighbours speak by mean field, as a prior that was trained has learned."),
    "crf": (
        "CRF",
        "Neighbours are the same class unless the image has an edge between them: labels of least "
        "energy, by graph cut.",
    ),
    "none": ("None", "The model labels each voxel without its neighbours."),
}
CHANGES: dict[Changes, tuple[str, str]] = {
    Changes.NONE: ("None", "Mark no changes."),
    Changes.START: ("Since start", "Mark the voxels whose label differs from the model's own."),
    Changes.PREVIOUS: (
        "Since last",
        "Mark the voxels whose label differs from that of the iteration before.",
    ),
}


def control_tips() -> dict[str, str]:
    """What each control does, with its formula, by name of its field."""
    return {
        name: f"{Controls.model_fields[name].description} {formula}".strip()
        for name, formula in _FORMULAS.items()
    }
