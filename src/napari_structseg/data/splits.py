"""nnU-Net's splits_final.json: which cases of a data set each fold trains on and validates on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from napari_structseg.errors import ConfigError

SPLITS = "splits_final.json"
_MAX_NAMED = 5
T = TypeVar("T")


class Fold(BaseModel):
    """Names of cases.

    Attributes
    ----------
    train, val
        On which a model is trained, and on which it is validated.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    train: tuple[str, ...]
    val: tuple[str, ...] = ()


_FOLDS = TypeAdapter(tuple[Fold, ...])


def read_fold(folder: Path, number: int, names: Collection[str]) -> Fold:
    """One fold of a data set, each case known and on one side only.

    Parameters
    ----------
    folder
        Of the data set; the file lies in it.
    number
        Which fold, from 0.
    names
        The cases of the data set.

    Raises
    ------
    ConfigError
        If the file cannot be read, has no such fold, or does not fit the data set.
    """
    path = folder / SPLITS
    try:
        folds = _FOLDS.validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"A fold was asked for, but {path} cannot be read: {error.strerror}. Copy nnU-Net's "
            f"{SPLITS} into the folder of the data set, or leave the fold out."
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise ConfigError(
            f"{path} is not a list of folds ({where}: {problem['msg']}), as in "
            '[{"train": ["CASE_1"], "val": ["CASE_2"]}].'
        ) from error
    if number >= len(folds):
        raise ConfigError(
            f"{path} has {len(folds)} folds, counted from 0, but fold {number} was asked for."
        )
    fold = folds[number]
    for wrong, what in (
        (sorted({*fold.train, *fold.val} - set(names)), "cases that the data set does not have"),
        (sorted({*fold.train} & {*fold.val}), "cases on both sides"),
    ):
        if wrong:
            named = ", ".join(map(repr, wrong[:_MAX_NAMED]))
            raise ConfigError(f"Fold {number} of {path} names {what}: {named}. Correct it.")
    if not fold.train:
        raise ConfigError(f"Fold {number} of {path} names no case to train on. Correct it.")
    return fold


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` of some things, spread evenly over them."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]
