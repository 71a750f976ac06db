"""The recipe beside a saved result: everything that is needed to make it again, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from napari_structseg.distributions import DomainCheck
from napari_structseg.io.references import FileReference, ModelReference, Sha256
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.priors import Update
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.results.request import (
    AUGMENTATION_PASSES,
    CUT,
    SAMPLES_MAX,
    THREADS_MAX,
    FilePath,
    PredictionRequest,
    make_request,
)

_PACKAGES = {"napari_structseg": "napari-structseg", "torch": "torch", "numpy": "numpy"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecipeNudge(_Part):
    """Two classes that should touch more, or less."""

    classes: tuple[str, str] = Field(description="Names of the two classes.")
    amount: float


class RecipePrior(_Part):
    """What an MRF did to labels, probabilities and entropy."""

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
    cut: CRFSpec | None = Field(
        None, description="The CRF of a graph cut, in place of mean field; None: there was no cut."
    )

    def of_cut(self) -> dict[str, Any]:
        """Fields of a :class:`PredictionRequest`; none without a graph cut."""
        if self.cut is None:
            return {}
        return {"cut": True, **{CUT + name: value for name, value in self.cut}}

    def of_prior(self) -> dict[str, Any]:
        """Fields of a :class:`PredictionRequest`; none without an MRF."""
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
        None, description="None: class probabilities or members were given in its place."
    )
    probabilities: tuple[FileReference, ...] = Field(
        (), description="The file of class probabilities, or one file for each class."
    )
    members: tuple[FileReference, ...] = Field(
        (), description="The files of predictions that other programs made, member by member."
    )
    members_as: Literal["members", "normal"] = Field(
        "members", description="Whether they were shown as they are, or a normal was fitted."
    )
    augment: tuple[Literal["flips", "intensity", "rotations"], ...] = Field(
        (), description="What the image was changed by in test-time augmentation; empty: none."
    )
    passes: int = Field(AUGMENTATION_PASSES, description="How many times the model was applied.")
    images: tuple[FileReference, ...] = Field(
        min_length=1,
        description="The image, or one for each channel: a file, or the files of a series.",
    )
    series: str | None = Field(
        None, description="Which DICOM series of the folder; None: there was only one."
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
    strokes: FileReference | None = Field(
        None,
        description="The file of strokes that the model was conditioned on; None: there was none.",
    )
    stroke_labels: dict[int, int] | None = Field(
        None, description="Label for each value in it; None: the value less one."
    )
    samples: int = Field(
        ge=0, le=SAMPLES_MAX, description="How many, from sample 1 of the series on."
    )
    save_probabilities: bool = Field(
        False, description="Whether probabilities.nii.gz was written, too."
    )
    format: Literal["nifti", "nrrd", "dicom-seg"] = Field("nifti", description="Of the images.")
    seed: int
    controls: RecipeControls
    device: str = Field(description="Where it was computed, for example cpu or cuda:0.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="What the network was computed in."
    )
    threads: int = Field(
        ge=1, le=THREADS_MAX, description="Threads of the processor: rounding depends on them."
    )
    versions: dict[str, str]
    command: tuple[str, ...] = Field(description="A command that does the same.")
    outside_domain: tuple[str, ...] | None = Field(
        None,
        description="What of the image is outside what the model was made for, in words; empty: "
        "nothing; None: the model does not say what it was made for.",
    )
    outputs: dict[str, Sha256] = Field(
        description="SHA-256 of the voxels of each file, little-endian in the order of read_image."
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Recipe:
        if sum(map(bool, (self.model, self.probabilities, self.members))) != 1:
            raise ValueError("give either a model, class probabilities, or members")
        return self

    @property
    def first_number(self) -> int:
        """What the file of sample 1 of the series is called."""
        return self.format_version - 1

    @property
    def prior_source(self) -> ModelReference | None:
        """The other model whose MRF refined the labels, if any."""
        return None if self.controls.prior is None else self.controls.prior.source

    def request(
        self,
        images: Sequence[FilePath],
        out: FilePath,
        *,
        model: FilePath | None = None,
        probabilities: Sequence[FilePath] = (),
        members: Sequence[FilePath] = (),
        prior: FilePath | None = None,
        strokes: FilePath | None = None,
        device: str | None = None,
        overwrite: bool = False,
    ) -> PredictionRequest:
        """What to ask for to get the same again.

        Parameters
        ----------
        images, out, probabilities, members, strokes, overwrite
            Of the request: a recipe does not know where files are.
        model, prior
            Where they are now; None: where the recipe says.
        device
            Another one than the recipe's.
        """
        if model is None and self.model is not None:
            model = self.model.model
        if prior is None and self.prior_source is not None:
            prior = self.prior_source.model
        return make_request(
            images=tuple(images),
            series=self.series,
            out=out,
            model=model,
            probabilities=tuple(probabilities),
            members=tuple(members),
            members_as=self.members_as,
            augment=self.augment,
            passes=self.passes,
            prior=prior,
            roi=self.roi,
            window=self.window,
            strokes=strokes,
            stroke_labels=self.stroke_labels,
            samples=self.samples,
            save_probabilities=self.save_probabilities,
            format=self.format,
            seed=self.seed,
            temperature=self.controls.temperature,
            class_scale=self.controls.class_scale,
            **self.controls.of_prior(),
            **self.controls.of_cut(),
            device=self.device if device is None else device,
            precision=self.precision,
            threads=self.threads,
            overwrite=overwrite,
        )

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
    request: PredictionRequest,
    *,
    model: ModelReference | None,
    probabilities: Sequence[FileReference],
    members: Sequence[FileReference] = (),
    prior_source: ModelReference | None,
    images: Sequence[FileReference],
    outputs: Mapping[str, str],
    strokes: FileReference | None = None,
    domain: DomainCheck | None = None,
    format_version: Literal[1, 2] = 2,
) -> Recipe:
    """Write down what was done, with this version of everything.

    Parameters
    ----------
    request
        With nothing left open: every control that has a say, the device, the threads.
    model, probabilities, members, prior_source, images, outputs, strokes
        Of the recipe.
    domain
        What was found of the image; None: nothing was looked for.
    format_version
        1 where the results of a recipe of that format were made again.
    """
    if request.seed is None or request.temperature is None or request.threads is None:
        raise AssertionError("a request is resolved before it is written down")
    return Recipe(
        format_version=format_version,
        model=model,
        probabilities=tuple(probabilities),
        members=tuple(members),
        members_as=request.members_as,
        augment=request.augment,
        passes=request.passes,
        images=tuple(images),
        series=request.series,
        roi=request.roi,
        window=request.window,
        strokes=strokes,
        stroke_labels=request.stroke_labels,
        samples=request.samples,
        save_probabilities=request.save_probabilities,
        format=request.format,
        seed=request.seed,
        controls=RecipeControls(
            temperature=request.temperature,
            class_scale=request.class_scale or {},
            prior=_prior_of(request, prior_source),
            cut=CRFSpec(**request.of_cut) if request.cut else None,
        ),
        device=request.device,
        precision=request.precision,
        threads=request.threads,
        versions=installed_versions(),
        command=("structseg", "predict", *request.arguments()),
        outside_domain=None if domain is None else domain.texts,
        outputs=dict(outputs),
    )


def _prior_of(request: PredictionRequest, source: ModelReference | None) -> RecipePrior | None:
    """What an MRF did; None: there was none."""
    if request.iterations is None:
        return None
    nudges = request.nudges or {}
    fields = {name: value for name, value in request.of_mrf.items() if name != "nudges"}
    return RecipePrior(
        source=source,
        nudges=tuple(RecipeNudge(classes=pair, amount=nudges[pair]) for pair in nudges),
        **fields,
    )
