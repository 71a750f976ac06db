"""What a report says of a prediction: taken from its recipe, so that both say the same."""

from __future__ import annotations

import shlex

from napari_structseg.distributions import DomainCheck
from napari_structseg.exports.report.content import ModelFacts, ReportContent
from napari_structseg.exports.samples import SampleSet
from napari_structseg.image import Image
from napari_structseg.io.references import FileReference
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.specs import Spec
from napari_structseg.results.labelling import LabellingRecord, which_of
from napari_structseg.results.recipe import Recipe

_DIGITS_OF_HASH = 12


def model_facts(spec: Spec) -> ModelFacts:
    """What a model says of itself."""
    if not isinstance(spec, ModelSpec):
        return ModelFacts(spec.name, "Class probabilities that another program has made.")
    record = spec.training
    return ModelFacts(spec.name, spec.description, record.data, record.licence)


def content_of(
    recipe: Recipe, image: Image, samples: SampleSet, spec: Spec, domain: DomainCheck | None
) -> ReportContent:
    """The report of one prediction.

    Parameters
    ----------
    recipe
        How it was made.
    image
        What was segmented.
    samples
        The mean and its samples.
    spec
        Of what made them.
    domain
        Whether that serves the image; None: nothing was looked for.
    """
    return ReportContent(
        image=image,
        classes=spec.classes,
        shown="the mean",
        samples=samples,
        model=model_facts(spec),
        domain=domain,
        facts=_facts(recipe),
        command=shlex.join(recipe.command),
        window=recipe.window,
    )


def content_of_labelling(
    record: LabellingRecord,
    image: Image,
    samples: SampleSet,
    spec: Spec,
    *,
    domain: DomainCheck | None,
    window: tuple[float, float] | None = None,
) -> ReportContent:
    """The report of one labelling that was chosen in the dock.

    Parameters
    ----------
    record
        How it was made.
    image, samples, spec, domain
        As for :func:`content_of`.
    window
        Intensities that are shown black and white; None: percentiles.
    """
    controls = record.controls
    names = [one.name for one in spec.classes]
    moved = {
        name: scale for name, scale in zip(names, controls.class_scale, strict=False) if scale != 1
    }
    refinement = {"mrf": f"{controls.iterations} iterations of mean field with an MRF"}
    refinement["crf"] = "graph cut of a CRF"
    facts = (
        ("Image", record.image if record.image_file is None else _file(record.image_file)),
        ("Model file", "" if record.model is None else _file(record.model)),
        ("Strokes", "" if record.strokes is None else "the user has said the class of voxels"),
        ("Region", "" if record.roi is None else " ".join(record.roi.arguments)),
        ("Samples", f"{len(samples)}, seed {controls.seed}"),
        ("Temperature", f"{controls.temperature:g}"),
        ("Class scales", ", ".join(f"{name} {scale:g}" for name, scale in moved.items())),
        ("Refinement", refinement[controls.coupling] if controls.is_coupled else "none"),
        ("Computed on", record.device),
        ("Versions", ", ".join(f"{name} {what}" for name, what in record.versions.items())),
    )
    return ReportContent(
        image=image,
        classes=spec.classes,
        shown=which_of(controls),
        samples=samples,
        model=None if record.model is None else model_facts(spec),
        domain=domain,
        facts=facts,
        command="" if record.command is None else shlex.join(record.command),
        window=window,
    )


def _facts(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    moved = {name: scale for name, scale in recipe.controls.class_scale.items() if scale != 1}
    return (
        ("Image", ", ".join(map(_file, recipe.images))),
        ("Model file", "" if recipe.model is None else _file(recipe.model)),
        ("Probabilities", ", ".join(map(_file, recipe.probabilities))),
        ("Strokes", "" if recipe.strokes is None else _file(recipe.strokes)),
        ("Region", "" if recipe.roi is None else " ".join(recipe.roi.arguments)),
        ("Samples", f"{recipe.samples}, seed {recipe.seed}"),
        ("Temperature", f"{recipe.controls.temperature:g}"),
        ("Class scales", ", ".join(f"{name} {scale:g}" for name, scale in moved.items())),
        ("Refinement", _refinement(recipe)),
        ("Computed on", f"{recipe.device}, {recipe.precision}"),
        ("Versions", ", ".join(f"{name} {what}" for name, what in recipe.versions.items())),
    )


def _refinement(recipe: Recipe) -> str:
    prior, cut = recipe.controls.prior, recipe.controls.cut
    if cut is not None:
        return "graph cut of a CRF"
    if prior is None or not prior.iterations:
        return "none"
    return f"{prior.iterations} iterations of mean field with an MRF"


def _file(reference: FileReference) -> str:
    return f"{reference.name} (SHA-256 {reference.sha256[:_DIGITS_OF_HASH]}…)"
