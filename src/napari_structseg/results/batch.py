"""Predictions without a screen: from image files to result files, and the same once more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from napari_structseg.controls import make_controls
from napari_structseg.devices import AUTO, resolve_device
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.weights import find_model, load_weights
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.prediction.intensity_windows import Range
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.source import FilePath, Source, open_source
from napari_structseg.priors import Update
from napari_structseg.results.recipe import Recipe, read_recipe
from napari_structseg.results.task import Report, files, prepare

DEFAULT_SAMPLES = 10


def load_model(model: FilePath, device: str = AUTO) -> tuple[SegmentationNetwork, ModelSpec]:
    """Load a model for :class:`Predictor`.

    Parameters
    ----------
    model
        Name of a shipped model, or a .safetensors file.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...

    Returns
    -------
    network
        On the device, in evaluation mode.
    spec
        Its specification.

    Raises
    ------
    WeightsError
        If there is no such model, or the file cannot be used.
    ConfigError
        If there is no such device.
    """
    return load_weights(find_model(os.fspath(model)), resolve_device(device))


def predict(
    image: FilePath | Sequence[FilePath],
    model: FilePath | None,
    out: FilePath,
    *,
    probabilities: FilePath | Sequence[FilePath] | None = None,
    prior: FilePath | None = None,
    roi: RegionOfInterest | None = None,
    window: Range | None = None,
    samples: int = DEFAULT_SAMPLES,
    seed: int | None = None,
    temperature: float = 1.0,
    class_scale: Mapping[str, float] | None = None,
    iterations: int | None = None,
    mrf_strength: float | None = None,
    damping: float | None = None,
    update: Update | None = None,
    nudges: Mapping[tuple[str, str], float] | None = None,
    device: str = AUTO,
    threads: int | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> Recipe:
    """Segment an image and write the mean, samples, their entropy, and the recipe.

    ``mean.nii.gz`` holds the labels of the mean, ``sample-001.nii.gz`` and so on those of the
    samples, all uint8; ``entropy.nii.gz`` holds the entropy of the marginal in nats, float32:
    of the softmax averaged over the samples, or of the mean's softmax where there are none.
    A model's prior refines labels; the entropy is always that of the model alone.
    Sample ``k`` is ``Noise(seed, k)``, the one that the viewer calls ``k``. All lie on the
    voxel grid of the image's file. ``recipe.json`` is written last.

    Parameters
    ----------
    image
        A NIfTI or PNG file. For several channels: a 4-D NIfTI file, or one file for each.
    model
        Name of a shipped model, or a .safetensors file; None with `probabilities`.
    out
        Folder for the results, made if it is missing.
    probabilities
        Class probabilities from elsewhere in a model's place: a 4-D NIfTI file, or one file for
        each class, the background first. On the image's voxel grid, summing to one. Their
        classes are called as those of the prior's model, or "class 0" and so on.
    prior
        Another model, by name or file, whose prior is used in place of the model's own. It has
        to be for as many classes and dimensions.
    roi
        For a 2-D model and a volume: the slices that it is applied to. The rest is background.
    window
        Intensities that the model sees as 0 and 1, where the model uses a window; None: its own.
    samples
        How many samples to write; may be 0.
    seed, temperature
        See :class:`Controls`.
    class_scale
        Scale of each class by name; 1 for those that are not named.
    iterations
        Iterations of mean field with the prior, 0 for none; None: as many as it was made for.
        This and what follows down to `nudges` needs a prior.
    mrf_strength, damping, update
        See :class:`Controls`; None: its default.
    nudges
        Amounts by pairs of class names; positive: the two should touch more than the prior
        wants, negative: less.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...
    threads
        Threads of the processor; None: as torch is set. Networks round differently with another
        number, which can change a voxel where two classes are equally probable.
    overwrite
        Replace the results of an earlier prediction in the folder.
    report
        Told about progress.

    Returns
    -------
    recipe
        What was written as ``recipe.json``.

    Raises
    ------
    ConfigError
        If a control, the number of samples or the device is not valid, if there is not either a
        model or probabilities, if the prior does not fit, if there is no prior to control, or if
        the model has no use for slices or a window.
    InputError
        If the image, the probabilities or the folder cannot be used, or results are there
        already; or if mean field
        leaves the finite numbers, which stops it wherever it is.
    WeightsError
        If the model cannot be used.
    MemoryLimitError
        If the work does not fit into memory. Nothing was allocated.

    Examples
    --------
    >>> recipe = predict("T1.nii.gz", "brain-tissue", "results", seed=7)  # doctest: +SKIP
    >>> sorted(recipe.outputs)[:2]  # doctest: +SKIP
    ['entropy.nii.gz', 'mean.nii.gz']
    """
    if samples < 0:
        raise ConfigError(f"The number of samples must be 0 or more, but it is {samples}.")
    if threads is not None and threads < 1:
        raise ConfigError(f"The number of threads must be 1 or more, but it is {threads}.")
    maps = () if probabilities is None else files(probabilities)
    source = open_source(
        model, resolve_device(device), probabilities=maps, prior=prior, roi=roi, window=window
    )
    settings: dict[str, Any] = {"temperature": temperature, "class_scale": dict(class_scale or {})}
    if seed is not None:
        settings["seed"] = seed
    asked = {
        "iterations": iterations,
        "mrf_strength": mrf_strength,
        "damping": damping,
        "update": update,
        "nudges": nudges,
    }
    settings.update(_of_prior(source, asked))
    task = prepare(
        source,
        image,
        make_controls(source.spec.class_names, **settings),
        samples=samples,
        threads=threads or torch.get_num_threads(),
        out=Path(out),
        overwrite=overwrite,
        window=window,
    )
    return task.run(report)


def reproduce(
    recipe: FilePath,
    image: FilePath | Sequence[FilePath],
    out: FilePath,
    *,
    model: FilePath | None = None,
    probabilities: FilePath | Sequence[FilePath] | None = None,
    prior: FilePath | None = None,
    device: str | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> Recipe:
    """Make the results of a recipe again, and compare them with what it promises.

    Parameters
    ----------
    recipe
        A ``recipe.json`` that :func:`predict` wrote.
    image
        The image it was made from, under any name.
    out, overwrite, report
        As for :func:`predict`.
    model, prior
        Where the model is, and the one whose prior was used, if not where the recipe says.
    probabilities
        The class probabilities it was made from, under any name.
    device
        Another device than the recipe's. Its results may differ in the last digits, and so in a
        few voxels.

    Returns
    -------
    recipe
        The one that was written beside the new results.

    Raises
    ------
    InputError
        As for :func:`predict`; if the image, the model, the probabilities or the prior is not the
        recipe's; or, after writing them, if the results are not the recipe's to the last voxel.
    """
    wanted = read_recipe(recipe)
    maps = () if probabilities is None else files(probabilities)
    _check_kind(wanted, model, maps, prior)
    if model is None and wanted.model is not None:
        model = wanted.model.model
    if prior is None and wanted.prior_source is not None:
        prior = wanted.prior_source.model
    source = open_source(
        model,
        resolve_device(wanted.device if device is None else device),
        probabilities=maps,
        prior=prior,
        roi=wanted.roi,
        window=wanted.window,
    )
    controls = make_controls(
        source.spec.class_names,
        seed=wanted.seed,
        temperature=wanted.controls.temperature,
        class_scale=dict(wanted.controls.class_scale),
        **wanted.controls.of_prior(),
    )
    task = prepare(
        source,
        image,
        controls,
        samples=wanted.samples,
        threads=wanted.threads,
        out=Path(out),
        overwrite=overwrite,
        window=wanted.window,
        wanted=wanted,
    )
    made = task.run(report)
    different = sorted(
        name for name, sha256 in wanted.outputs.items() if made.outputs.get(name) != sha256
    )
    if different:
        changes = wanted.changed_versions()
        if made.device != wanted.device:
            changes.append(f"device {wanted.device}, now {made.device}")
        raise InputError(
            f"The results are in {task.out}, but {', '.join(different)} differ from those that the "
            f"recipe describes. Changed since: {', '.join(changes) or 'only the machine'}. Use the "
            "recipe's versions and device to get the same voxels."
        )
    return made


def _of_prior(source: Source, asked: dict[str, Any]) -> dict[str, Any]:
    """Controls of a prior: what is not None, and its own number of iterations if not.

    Raises
    ------
    ConfigError
        If something was asked for and there is no prior.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    if source.iterations is not None:
        return {"iterations": source.iterations, **given}
    if given:
        raise ConfigError(
            f"A model with a prior was expected for {', '.join(given)}, but {source.spec.name!r} "
            "has none. Leave that out, or name a model that was trained with a prior, with "
            "--model or --prior: 'structseg info' tells."
        )
    return {}


def _check_kind(
    recipe: Recipe, model: FilePath | None, maps: Sequence[FilePath], prior: FilePath | None
) -> None:
    """Raise ConfigError unless what was given is of the kind that a recipe was made from."""
    if recipe.model is None and (model is not None or not maps):
        names = ", ".join(one.name for one in recipe.probabilities)
        raise ConfigError(
            f"The recipe was made from class probabilities ({names}). Give them with "
            "--probabilities, and no --model."
        )
    if recipe.model is not None and maps:
        raise ConfigError(
            f"The recipe was made with the model {recipe.model.model}, not from class "
            "probabilities. Leave out --probabilities."
        )
    if recipe.prior_source is None and prior is not None:
        raise ConfigError(
            "The recipe uses no prior of another model. Leave out --prior, or predict without "
            "--recipe."
        )
