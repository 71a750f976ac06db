"""How the fields of a prediction request are written in a terminal.

Reading and writing stand side by side, so that the command in a recipe is what the command line
reads. Nothing here loads torch: `structseg --help` needs it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_structseg.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Option:
    """An option whose text is not simply the value of its field.

    Attributes
    ----------
    name
        Of the option, without the dashes.
    many
        Whether it may be given several times.
    read
        The field's value from the text, or from a list of texts.
    write
        Texts, one for each time the option is given.
    """

    name: str
    many: bool
    read: Callable[[Any], Any]
    write: Callable[[Any], list[str]]


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name of an option, for those who call it so.

    Attributes
    ----------
    name
        Without the dashes.
    """

    name: str


def read_scales(assignments: Sequence[str]) -> dict[str, float]:
    """Class scales by name from NAME=VALUE.

    Raises
    ------
    ConfigError
        If one is not of this form, or a class is named twice.
    """
    scales: dict[str, float] = {}
    for assignment in assignments:
        name, equals, value = assignment.rpartition("=")
        try:
            scale = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(
                f'--class-scale needs NAME=VALUE, for example "Grey matter=1.4", but it is '
                f"{assignment!r}."
            )
        if name in scales:
            raise ConfigError(f"--class-scale names the class {name!r} twice. Give one value.")
        scales[name] = scale
    return scales


def write_scales(scales: Mapping[str, float]) -> list[str]:
    """The inverse of :func:`read_scales`."""
    return [f"{name}={scale!r}" for name, scale in scales.items()]


def read_nudges(assignments: Sequence[str]) -> dict[tuple[str, str], float]:
    """Amounts by pairs of class names from NAME,NAME=VALUE.

    Raises
    ------
    ConfigError
        If one is not of this form, or a pair is named twice.
    """
    nudges: dict[tuple[str, str], float] = {}
    for assignment in assignments:
        names, _, value = assignment.rpartition("=")
        try:
            amount = float(value)
            # A name with a comma of its own is quoted.
            (pair,) = csv.reader([names], skipinitialspace=True, strict=True)
            first, second = pair
        except (ValueError, csv.Error) as error:
            raise ConfigError(
                f'--nudge needs NAME,NAME=VALUE, for example "CSF,White matter=-0.5", but it is '
                f"{assignment!r}."
            ) from error
        if (first, second) in nudges:
            raise ConfigError(f"--nudge names {first!r} and {second!r} twice. Give one value.")
        nudges[first, second] = amount
    return nudges


def check_pairs(nudges: object) -> object:
    """Raise ConfigError unless the keys of a mapping are pairs of names."""
    for pair in nudges if isinstance(nudges, Mapping) else ():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ConfigError(
                f"A nudge is between two classes, but it is given for {pair!r}. Name both, or the "
                "same one twice."
            )
    return nudges


def write_nudges(nudges: Mapping[tuple[str, str], float]) -> list[str]:
    """The inverse of :func:`read_nudges`."""
    return [f"{_comma_separated(pair)}={amount!r}" for pair, amount in nudges.items()]


def read_window(ends: str) -> tuple[float, float]:
    """Two numbers from LOW:HIGH.

    Raises
    ------
    ConfigError
        If it is not of this form.
    """
    try:
        low, high = map(float, ends.split(":"))
    except ValueError as error:
        raise ConfigError(
            f"--window needs LOW:HIGH, for example --window=-1000:1200, but it is {ends!r}."
        ) from error
    return low, high


def write_window(window: tuple[float, float]) -> list[str]:
    """The inverse of :func:`read_window`."""
    return [f"{window[0]!r}:{window[1]!r}"]


def read_stroke_labels(pairs: str) -> dict[int, int]:
    """Labels of classes by the values in a file of strokes, from VALUE=LABEL,VALUE=LABEL.

    Raises
    ------
    ConfigError
        If it is not of this form, or a value is named twice.
    """
    labels: dict[int, int] = {}
    for pair in pairs.split(","):
        value, _, label = pair.partition("=")
        try:
            key, number = int(value), int(label)
        except ValueError as error:
            raise ConfigError(
                f"--stroke-labels needs VALUE=LABEL,VALUE=LABEL, for example 5=1,7=2, but it is "
                f"{pairs!r}."
            ) from error
        if key in labels:
            raise ConfigError(f"--stroke-labels names the value {key} twice. Give one label.")
        labels[key] = number
    return labels


def write_stroke_labels(labels: Mapping[int, int]) -> list[str]:
    """The inverse of :func:`read_stroke_labels`."""
    return [",".join(f"{value}={label}" for value, label in labels.items())]


def _comma_separated(names: Sequence[str]) -> str:
    """One line of CSV: a name with a comma of its own is quoted."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


# A file of mean, factor and diagonal stands in a model's place.
TENSORS = Alias("tensors")
# What nnU-Net calls the members of its ensemble.
MEMBERS, MEMBERS_AS = Alias("folds"), Alias("folds-as")
CLASS_SCALE = Option("class-scale", many=True, read=read_scales, write=write_scales)
NUDGES = Option("nudge", many=True, read=read_nudges, write=write_nudges)
STROKE_LABELS = Option(
    "stroke-labels", many=False, read=read_stroke_labels, write=write_stroke_labels
)
REPORT = Option("report", many=False, read=str, write=lambda name: [name])
WINDOW = Option("window", many=False, read=read_window, write=write_window)
