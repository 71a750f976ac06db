"""Count what `structseg predict` touches of our own, from the command to the written files.

    python scripts/count_calls.py

prints how many of our modules have a function that runs, and how many calls between different
functions of ours are made, for a tiny model on a tiny image. Fewer modules mean fewer places to
know before something is changed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import FrameType

import nibabel as nib
import numpy as np

import napari_structseg
from napari_structseg.cli import main
from napari_structseg.io.weights import save_weights
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec, build_network

ROOT = str(Path(napari_structseg.__file__).parent)


def write_model(path: Path) -> Path:
    """A model of a few hundred weights."""
    spec = ModelSpec(
        name="tiny",
        dimensions=3,
        channels=("T1",),
        patch=(16, 16, 16),
        backbone=BackboneSpec(widths=(4, 8), convolutions=(1, 1)),
        head=HeadSpec(rank=3),
        classes=(
            ClassSpec(name="background", color="#000000"),
            ClassSpec(name="object", color="#ff0000"),
        ),
    )
    save_weights(path, build_network(spec), spec)
    return path


def count(arguments: list[str]) -> tuple[set[str], set[tuple[str, str]]]:
    """Our modules and functions that run for a command."""
    modules: set[str] = set()
    functions: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        # Bodies of modules and classes run when they are imported, whoever imports them.
        if event == "call" and code.co_filename.startswith(ROOT) and code.co_flags & 2:
            module = code.co_filename.removeprefix(ROOT + "/")
            modules.add(module)
            functions.add((module, code.co_qualname))

    sys.setprofile(note)
    try:
        exit_code = main(arguments)
    finally:
        sys.setprofile(None)
    if exit_code != 0:
        raise SystemExit(exit_code)
    return modules, functions


def run() -> None:
    """Count, and say it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        voxels = np.random.default_rng(0).integers(1, 200, (20, 18, 12)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / "T1.nii.gz")
        model = write_model(folder / "tiny.safetensors")
        arguments = ["predict", f"{folder / 'T1.nii.gz'}", "--model", f"{model}"]
        modules, functions = count([*arguments, "--out", f"{folder / 'out'}", "--samples", "2"])
    sys.stdout.write("\n".join(sorted(modules)) + "\n")
    sys.stdout.write(f"{len(modules)} modules, {len(functions)} functions\n")


if __name__ == "__main__":
    run()
