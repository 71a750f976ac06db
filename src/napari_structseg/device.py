"""Which processor to compute on."""

from __future__ import annotations

from typing import Literal

import torch

from napari_structseg.errors import ConfigError

DeviceChoice = Literal["auto", "cpu", "cuda"]


def choose_device(choice: DeviceChoice) -> torch.device:
    """Resolve a choice of device.

    Parameters
    ----------
    choice
        auto: a CUDA GPU where there is one, else the CPU.

    Raises
    ------
    ConfigError
        If a GPU is asked for and torch finds none.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        build = "" if torch.version.cuda else " This build of torch is for CPUs only."
        raise ConfigError(
            f"A CUDA GPU was asked for, but torch finds none.{build} Install torch for your GPU "
            "(see https://pytorch.org/get-started/locally) or choose the CPU."
        )
    if choice == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")
