"""A program and what is said of it become a model, after it was run once on zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_structseg.errors import ConfigError, InputError, WeightsError
from napari_structseg.io.weights import save_weights
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.models.programs.archive import kind_of, read_archive
from napari_structseg.models.programs.network import ProgramNetwork, described
from napari_structseg.models.programs.opening import Opened, open_program
from napari_structseg.models.programs.settings import (
    EXAMPLES,
    ProgramSettings,
    lines_of,
    make_settings,
    program_model,
    read_program,
)

_REQUIRED = tuple(name for name in EXAMPLES if name != "rank")
_SUM_TOLERANCE = 0.01
_MOST_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Imported:
    """A program that was checked.

    Attributes
    ----------
    network, spec
        The model.
    returned
        What the program returned for zeros, in words.
    warnings
        What is worth a second look.
    """

    network: SegmentationNetwork
    spec: ModelSpec
    returned: str
    warnings: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write the model as one file.

        Raises
        ------
        InputError
            If there is such a file already, or the system refuses.
        WeightsError
            If the name does not end in .safetensors.
        """
        if path.exists():
            raise InputError(f"There is a file {path} already. Choose another name.")
        save_weights(path, self.network, self.spec)


def check_program(program: Path, table: Mapping[str, Any]) -> Imported:
    """Make a model of a program, and run it once on zeros of the stated patch.

    Parameters
    ----------
    program
        Its file.
    table
        Fields of its settings, as :func:`read_settings_table` gives them.

    Raises
    ------
    ConfigError
        If settings are missing or wrong, with the lines to add.
    WeightsError
        If the program cannot be opened, fails, or returns something else than was said.
    MemoryLimitError
        If it does not fit into memory.
    """
    return check_content(read_program(program)[0], program.name, table)


def check_content(content: bytes, name: str, table: Mapping[str, Any]) -> Imported:
    """The same for the bytes of a program.

    Parameters
    ----------
    content
        Of its file.
    name
        Of its file.
    table
        As for :func:`check_program`.

    Raises
    ------
    ConfigError, WeightsError, MemoryLimitError
        As :func:`check_program`.
    """
    members = read_archive(content, name)
    kind = kind_of(members, name)
    fields = {**table, "program": name}
    missing = [one for one in _REQUIRED if one not in fields]
    if missing:
        run = open_program(content, kind, name, torch.device("cpu"))
        raise ConfigError(_what_is_missing(fields, missing, run, name))
    settings = make_settings(fields, "What is said of the program")
    network, spec = program_model(settings, content, members)
    assert isinstance(network, ProgramNetwork)
    patch = tuple(spec.patch)
    zeros = _zeros((1, len(spec.channels), *patch))
    with torch.inference_mode():
        returned = network.run(zeros)
        try:
            parameters = network.read(returned)
        except WeightsError as error:
            raise WeightsError(f"{error}\n{_advice(settings, returned)}".rstrip()) from error
    if tuple(parameters.mean.shape[2:]) != patch:
        raise WeightsError(
            f"The program was shown {patch} voxels and returned {tuple(parameters.mean.shape[2:])}:"
            " it has to return as many. Pad inside the network, or crop its input."
        )
    said = [*_sizes_warnings(network, spec)]
    if settings.outputs.values == "probabilities":
        said += _sum_warnings(returned, settings)
    wrong = parameters.first_not_finite()
    if wrong is not None:
        said.append(f"For zeros its {wrong} is not finite; for an image it has to be.")
    return Imported(network, spec, described(returned), tuple(said))


def _zeros(shape: tuple[int, ...]) -> torch.Tensor:
    voxels = 4
    for size in shape:
        voxels *= size
    check_memory(2 * voxels, f"Running the program on {shape} zeros")
    return torch.zeros(shape)


def _what_is_missing(
    fields: Mapping[str, Any],
    missing: list[str],
    run: Opened,
    program: str,
) -> str:
    """The lines to add, with what the program itself shows where it can be tried."""
    known = {"name": f'name = "{Path(program).stem}"'}
    if "classes" in missing and {"dimensions", "channels", "patch"} <= fields.keys():
        n_classes = _channels_returned(fields, run)
        if n_classes is not None:
            names = ['"background"', *(f'"class {label}"' for label in range(1, n_classes))]
            known["classes"] = f"classes = [{', '.join(names)}]"
    lines = lines_of(missing, known)
    return "\n".join(
        [
            f"It is not said how {program} is used. Add these lines to its settings, with "
            "what is true of your network:",
            *lines,
            "docs/your-own-network.md explains each field.",
        ]
    )


def _channels_returned(fields: Mapping[str, Any], run: Opened) -> int | None:
    """How many channels the mean has; None: the program cannot be tried, or returns none."""
    patch, channels = fields["patch"], fields["channels"]
    if not (isinstance(patch, list) and isinstance(channels, list)):
        return None
    if not all(isinstance(size, int) and 0 < size <= 1024 for size in patch):
        return None
    try:
        with torch.inference_mode():
            returned = run(_zeros((1, len(channels), *patch)))
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
        return None
    if isinstance(returned, Mapping):
        returned = next(iter(returned.values()), None)
    if isinstance(returned, tuple | list):
        returned = returned[0] if returned else None
    if not isinstance(returned, torch.Tensor) or returned.ndim < 2:
        return None
    return max(2, int(returned.shape[1])) if returned.shape[1] <= _MOST_SHOWN else None


def _advice(settings: ProgramSettings, returned: object) -> str:
    """Lines that would make what was returned fit, where that is plain."""
    if not isinstance(returned, torch.Tensor):
        return f"It returned {described(returned)}."
    n, n_classes = returned.shape[1], len(settings.classes)
    if n == 1 and n_classes == 2:
        return "It returns one channel for two classes. Add:\n  [outputs]\n  channels = 1"
    if n != n_classes:
        return f"It returns {n} channels: give {n} classes, the background among them."
    return ""


def _sizes_warnings(network: ProgramNetwork, spec: ModelSpec) -> list[str]:
    """Whether the program takes the sizes that it is said to take."""
    program = spec.program
    if program is None or program.sizes == "patch":
        return []
    other = [program.whole(size) + program.divisor for size in spec.patch]
    try:
        with torch.inference_mode():
            network.run(_zeros((1, len(spec.channels), *other)))
    except WeightsError as error:
        raise ConfigError(
            f"sizes = 'multiple' says that the program takes {other} voxels, but it does not: "
            f"{error} Write sizes = 'patch'."
        ) from error
    return []


def _sum_warnings(returned: object, settings: ProgramSettings) -> list[str]:
    found = returned[0] if isinstance(returned, tuple | list) else returned
    if not isinstance(found, torch.Tensor) or found.shape[1] != len(settings.classes):
        return []
    sums = found.float().sum(dim=1)
    if float((sums - 1).abs().max()) <= _SUM_TOLERANCE:
        return []
    return [
        "Its probabilities do not sum to 1: are they of classes that overlap, or are they logits?"
    ]
