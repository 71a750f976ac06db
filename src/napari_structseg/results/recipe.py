"""The recipe beside a saved result: everything that is needed to make it again, exactly."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_structseg.controls import Controls
from napari_structseg.errors import InputError
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.references import FileReference, ModelReference, Sha256
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.priors import Update

RECIPE_NAME = "recipe.json"
_PACKAGES = {"napari_structseg": "napari-structseg", "torch": "torch", "numpy": "numpy"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecipeNudge(_Part):
    """Two classes that should touch more, or less."""

    classes: tuple[str, str] = Field(description="Names of the two classes.")
    amount: float


class RecipePrior(_Part):
    """What a prior did to the labels. Entropy is that of the model alone."""

    source: ModelReference | None = Field(
        None, description="The model that it was trained with; None: the one that was run."
    )
    iterations: int = Field(description="Iterations of mean field; 0: the model alone.")
    mrf_strength: float
    damping: float
    update: Update
    nudges: tuple[RecipeNudge, ...]


class RecipeControls(_Part):
    """The sliders, by name."""

    temperature: float
    class_scale: dict[str, float] = Field(description="Scale of every class of the model.")
    prior: RecipePrior | None = Field(None, description="None: there was no prior.")

    def of_prior(self) -> dict[str, Any]:
        """Fields for :func:`napari_structseg.controls.make_controls`; none without a prior."""
        if self.prior is None:
            return {}
        return {
            **self.prior.model_dump(exclude={"nudges", "source"}),
            "nudges": {one.classes: one.amount for one in self.prior.nudges},
        }


class Recipe(_Part):
    """How the files of one prediction came to be. Written as ``recipe.json`` beside them.

    The same model, image, seed and controls on the same device, with as many threads and the same
    versions, give the same voxels again. ``outputs`` says whether they did.
    """

    format_version: Literal[1, 2] = Field(
        2, description="In format 1 the file of sample 1 was called sample-000."
    )
    model: ModelReference | None = Field(
        None, description="None: class probabilities were given in its place."
    )
    probabilities: tuple[FileReference, ...] = Field(
        (), description="The file of class probabilities, or one file for each class."
    )
    images: tuple[FileReference, ...] = Field(
        min_length=1, description="The image file, or one file for each channel."
    )
    roi: RegionOfInterest | None = Field(
        None,
        # Recipes of version 0.1 call it `marked`.
        validation_alias=AliasChoices("roi", "marked"),
        description="Slices that a 2-D model was applied to; None: the whole image.",
    )
    window: tuple[float, float] | None = Field(
        None, description="Intensities seen as 0 and 1; None: as the model says."
    )
    samples: int = Field(ge=0, description="How many, from sample 1 of the series on.")
    seed: int
    controls: RecipeControls
    device: str = Field(description="Where it was computed, for example cpu or cuda:0.")
    threads: int = Field(ge=1, description="Threads of the processor: rounding depends on them.")
    versions: dict[str, str]
    command: tuple[str, ...] = Field(description="A command that does the same.")
    outputs: dict[str, Sha256] = Field(
        description="SHA-256 of the voxels of each file, little-endian in the order of read_image."
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Recipe:
        if (self.model is None) != bool(self.probabilities):
            raise ValueError("give either a model or class probabilities")
        return self

    @property
    def first_number(self) -> int:
        """What the file of sample 1 of the series is called."""
        return self.format_version - 1

    @property
    def prior_source(self) -> ModelReference | None:
        """The other model whose prior refined the labels, if any."""
        return None if self.controls.prior is None else self.controls.prior.source

    def changed_versions(self) -> list[str]:
        """What is installed in another version now, in words."""
        now = installed_versions()
        return [
            f"{name} {then}, now {now.get(name, 'unknown')}"
            for name, then in self.versions.items()
            if now.get(name) != then
        ]


def installed_versions() -> dict[str, str]:
    """Versions of what the voxels of a result depend on, the processor among them."""
    versions = {name: version(package) for name, package in _PACKAGES.items()}
    return {**versions, "cpu": torch.backends.cpu.get_cpu_capability()}


def make_recipe(
    model: ModelReference | None,
    probabilities: Mapping[str, FileReference],
    images: Sequence[FileReference],
    controls: Controls,
    class_names: Sequence[str],
    *,
    has_prior: bool,
    prior_source: ModelReference | None,
    roi: RegionOfInterest | None,
    window: tuple[float, float] | None,
    samples: int,
    device: str,
    threads: int,
    outputs: Mapping[str, str],
    arguments: Sequence[str],
    format_version: Literal[1, 2] = 2,
) -> Recipe:
    """Write down what was done, with this version of everything.

    Parameters
    ----------
    model, images, controls, samples, device, threads, outputs
        Of the recipe.
    probabilities
        By path; empty for a model.
    class_names
        In label order.
    has_prior
        Whether there is one.
    prior_source
        The other model that it was trained with; None: it is the model's own.
    roi, window
        Of the recipe.
    arguments
        Paths of the command that does the same.
    format_version
        1 where the results of a recipe of that format were made again.
    """
    scales = controls.class_scale or (1.0,) * len(class_names)
    by_name = dict(zip(class_names, scales, strict=True))
    command = ["structseg", "predict", *arguments]
    if model is not None:
        command += ["--model", model.model]
    for path in probabilities:
        command += ["--probabilities", path]
    if prior_source is not None:
        command += ["--prior", prior_source.model]
    if roi is not None:
        command += roi.arguments
    if window is not None:
        # With an equals sign, or a negative number would be taken for an option.
        command += [f"--window={window[0]!r}:{window[1]!r}"]
    command += ["--samples", f"{samples}", "--seed", f"{controls.seed}"]
    command += ["--temperature", f"{controls.temperature!r}"]
    for name, scale in by_name.items():
        command += ["--class-scale", f"{name}={scale!r}"]
    prior = _prior_of(controls, class_names, prior_source) if has_prior else None
    if prior is not None:
        command += ["--iterations", f"{prior.iterations}"]
        command += ["--mrf-strength", f"{prior.mrf_strength!r}"]
        command += ["--damping", f"{prior.damping!r}", "--update", prior.update]
        for nudge in prior.nudges:
            command += ["--nudge", f"{_comma_separated(nudge.classes)}={nudge.amount!r}"]
    command += ["--device", device, "--threads", f"{threads}"]
    return Recipe(
        format_version=format_version,
        model=model,
        probabilities=tuple(probabilities.values()),
        images=tuple(images),
        roi=roi,
        window=window,
        samples=samples,
        seed=controls.seed,
        controls=RecipeControls(temperature=controls.temperature, class_scale=by_name, prior=prior),
        device=device,
        threads=threads,
        versions=installed_versions(),
        command=tuple(command),
        outputs=dict(outputs),
    )


def _prior_of(
    controls: Controls, class_names: Sequence[str], source: ModelReference | None
) -> RecipePrior:
    return RecipePrior(
        source=source,
        iterations=controls.iterations,
        mrf_strength=controls.mrf_strength,
        damping=controls.damping,
        update=controls.update_rule,
        nudges=tuple(
            RecipeNudge(
                classes=(class_names[one.first], class_names[one.second]), amount=one.amount
            )
            for one in controls.nudges
        ),
    )


def _comma_separated(names: Sequence[str]) -> str:
    """One line of CSV: a name with a comma of its own is quoted."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


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
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). Give the {RECIPE_NAME} beside the results of "
            "'structseg predict'."
        ) from error


def check_prior(recipe: Recipe, name: str, *, has_prior: bool) -> None:
    """Raise InputError unless a recipe says what to do with a prior, if there is one."""
    if (recipe.controls.prior is None) == has_prior:
        has, says = ("a", "nothing about it") if has_prior else ("no", "what it did")
        raise InputError(
            f"The model {name!r} has {has} prior, but the recipe says {says}. It was edited, "
            "or made by an early version that had no priors. Predict anew without --recipe."
        )


def check_same(what: str, found: Sequence[FileReference], wanted: Sequence[FileReference]) -> None:
    """Raise InputError unless files are those of a recipe, whatever they are called."""
    if [one.sha256 for one in found] != [one.sha256 for one in wanted]:
        raise InputError(
            f"The {what} is not the one that the recipe was made with: it is "
            f"{_described(found)}, but the recipe says {_described(wanted)}. Give the original."
        )


def _described(files: Sequence[FileReference]) -> str:
    return ", ".join(f"{one.name} (SHA-256 {one.sha256[:12]}…)" for one in files)
