"""Names of classes, and what regions they are, from the dataset.json of an nnU-Net model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_structseg.errors import InputError

DATASET_NAME = "dataset.json"
_MAX_BYTES = 1 << 24
# Of a label that was ignored in training: the network has no output for it.
_IGNORED = "ignore"


@dataclass(frozen=True, slots=True)
class Labels:
    """What a model of nnU-Net was trained to tell apart.

    Attributes
    ----------
    names
        Of the classes in label order, the background first.
    regions
        For a model of regions: the labels in each, in the order of its outputs; None: its outputs
        are classes.
    """

    names: tuple[str, ...]
    regions: tuple[frozenset[int], ...] | None = None


def find_labels(folder: Path) -> Labels | None:
    """What the nearest dataset.json says, in a folder of predictions or up to two folders above.

    nnU-Net copies it beside predictions; for those of its cross-validation it lies two folders
    above. None: there is none.

    Raises
    ------
    InputError
        If it cannot be read, or does not say which labels there are.
    """
    for place in (folder, *list(folder.absolute().parents)[:2]):
        path = place / DATASET_NAME
        if path.is_file():
            return read_labels(path)
    return None


def read_labels(path: Path) -> Labels:
    """Labels of a dataset.json, in the form of version 2 (names first) or 1 (numbers first).

    Raises
    ------
    InputError
        If it cannot be read, or does not say which labels there are.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["labels"]
        items = [_in_order(name, value) for name, value in listed.items()]
        order = content.get("regions_class_order")
        return _labels([item for item in items if item[0] != _IGNORED], order)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} does not say which labels there are ({type(error).__name__}: {error}). Give "
            "the dataset.json that the model was trained with, or move it away: classes then have "
            "numbers for names."
        ) from error


def _in_order(name: str, value: object) -> tuple[str, tuple[int, ...]]:
    """A name and its labels, whichever of them came first."""
    if isinstance(value, str):
        return value, (int(name),)
    if isinstance(value, list):
        return name, tuple(int(label) for label in value)
    if not isinstance(value, int):
        raise ValueError(f"label {name!r} is {value!r}")
    return name, (value,)


def _labels(items: list[tuple[str, tuple[int, ...]]], order: Any) -> Labels:  # noqa: ANN401 -- JSON
    highest = max(label for _, labels in items for label in labels)
    if not 0 <= highest <= 255 or min(label for _, labels in items for label in labels) < 0:
        raise ValueError("labels must lie between 0 and 255")
    is_of_regions = any(len(labels) > 1 for _, labels in items)
    if is_of_regions and order is None:
        raise ValueError("there are regions, but no regions_class_order")
    outputs = [(name, labels) for name, labels in items if labels != (0,)]
    if is_of_regions:
        # nnU-Net gives the region that comes first the label that is first in the order.
        kept = [int(label) for label in order]
        if len(kept) != len(outputs):
            raise ValueError("regions_class_order is of another number of regions")
        named = dict(zip(kept, (name for name, _ in outputs), strict=True))
    else:
        kept, named = [], {labels[0]: name for name, labels in items}
    names = tuple(
        named.get(label, "background" if label == 0 else f"class {label}")
        for label in range(highest + 1)
    )
    if len(set(names)) < len(names):
        raise ValueError("two labels have the same name")
    if not is_of_regions:
        return Labels(names)
    if kept != list(range(1, len(kept) + 1)):
        raise ValueError("regions_class_order is expected to count from 1")
    return Labels(names, tuple(frozenset(labels) for _, labels in outputs))
