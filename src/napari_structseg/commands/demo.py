"""`structseg demo`: a brain in napari, explored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_structseg.errors import ConfigError

_OUT = Path("demo-output")


def demo(
    *,
    headless: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
    image: Path | None = None,
    model: str = "brain-tissue",
) -> None:
    """Open a brain in napari and explore what its segmentation could be.

    With --headless nobody has to watch: the dock is driven through samples and sliders, and what
    there is to see is written to --out: screenshot.png, labels.nii.gz, report.json.

    Parameters
    ----------
    headless
        Write files instead of waiting for the user. Needs a screen all the same, which may be a
        virtual one: xvfb-run.
    out
        Folder for the files of --headless; demo-output if not given.
    image
        A NIfTI file to open instead of the MNI152 brain that nilearn brings along.
    model
        Name of a model that comes with the program, or a .safetensors file.
    """
    from napari_structseg.screen import check_screen

    if out is not None and not headless:
        raise ConfigError("--out is for --headless. Leave it out, or add --headless.")
    check_screen()
    if not headless:
        from napari_structseg.demo import open_demo

        open_demo(model, image)
        return
    from rich.console import Console

    # The user's own settings of napari are neither used nor changed.
    os.environ["NAPARI_CONFIG"] = ""
    from napari_structseg.demo import record_demo

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    folder = out or _OUT
    with console.status("") as status:
        report = record_demo(model, image, folder, lambda what: status.update(f"{what}…"))
    console.print(
        f"First paint after {report['seconds_to_first_paint']:.1f} s. In {folder}: "
        "screenshot.png, labels.nii.gz, report.json and more pictures",
        markup=False,
    )
