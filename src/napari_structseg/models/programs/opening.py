"""Opening a program: from its bytes to a function of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from napari_structseg.errors import WeightsError
from napari_structseg.models.program_spec import ProgramKind
from napari_structseg.models.programs.archive import kind_of, read_archive
from napari_structseg.models.programs.exported import Exported
from napari_structseg.models.programs.torchscript import open_torchscript

Opened = Callable[[torch.Tensor], Any]


def open_program(content: bytes, kind: ProgramKind, name: str, device: torch.device) -> Opened:
    """A function that runs a program without gradients of its weights.

    Parameters
    ----------
    content
        Of its file.
    kind
        What it should be.
    name
        For messages.
    device
        Where it is to run.

    Raises
    ------
    WeightsError
        If it is none of that kind, is damaged, or could reach beyond the program.
    MemoryLimitError
        If it does not fit into memory.
    """
    members = read_archive(content, name)
    found = kind_of(members, name)
    if found != kind:
        raise WeightsError(f"{name} was expected to hold a {kind} program, but it is {found}.")
    if found == "export":
        return Exported(members, name, device)
    return open_torchscript(members, name, device)
