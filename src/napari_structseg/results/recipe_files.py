"""Recipes as files: written, read, and held to the images and models that are there now."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_structseg.errors import InputError
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.references import FileReference
from napari_structseg.results.recipe import Recipe

RECIPE_NAME = "recipe.json"


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write ``recipe.json``, atomically.

    Raises
    ------
    InputError
        If the system refuses to write there.
    """
    with atomic_path(folder / RECIPE_NAME) as temporary:
        temporary.write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe.

    Raises
    ------
    InputError
        If the file is missing, or is not a recipe of this program.
    """
    path = Path(path)
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return Recipe.model_validate(content)
    except OSError as error:
        raise InputError(
            f"Cannot read the recipe {path}: {error.strerror or error}. Give the {RECIPE_NAME} "
            "beside the results of 'structseg predict'."
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise InputError(
            f"{path} is not a recipe of this version of napari-structseg ({where}: "
            f"{problem['msg']}). Give the {RECIPE_NAME} beside the results of 'structseg predict'."
        ) from error
    # RecursionError: arrays nested a thousand deep.
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). Give the {RECIPE_NAME} beside the results of "
            "'structseg predict'."
        ) from error


def check_prior(recipe: Recipe, name: str, *, has_prior: bool) -> None:
    """Raise InputError unless a recipe says what to do with an MRF, if there is one."""
    if (recipe.controls.prior is None) == has_prior:
        has, says = ("a", "nothing about it") if has_prior else ("no", "what it did")
        raise InputError(
            f"The model {name!r} has {has} prior, but the recipe says {says}. It was edited, "
            "or made by an early version that had no MRFs. Predict again without --recipe."
        )


def check_strokes(recipe: Recipe, found: Sequence[FileReference]) -> None:
    """Raise InputError unless strokes are given where a recipe has some, and they are its own."""
    if recipe.strokes is None and found:
        raise InputError("The recipe was made without strokes. Leave --strokes out.")
    if recipe.strokes is not None and not found:
        raise InputError(
            f"The recipe was made with the strokes {recipe.strokes.name}. Give that file with "
            "--strokes."
        )
    check_same("strokes", found, [] if recipe.strokes is None else [recipe.strokes])


def check_same(what: str, found: Sequence[FileReference], wanted: Sequence[FileReference]) -> None:
    """Raise InputError unless files are those of a recipe, whatever they are called."""
    if [one.sha256 for one in found] != [one.sha256 for one in wanted]:
        raise InputError(
            f"The {what} is not the one that the recipe was made with: it is "
            f"{_described(found)}, but the recipe says {_described(wanted)}. Give the original."
        )


def _described(files: Sequence[FileReference]) -> str:
    return ", ".join(f"{one.name} (SHA-256 {one.sha256[:12]}…)" for one in files)
