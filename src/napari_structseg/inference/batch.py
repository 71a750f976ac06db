"""Predictions without a screen: from image files to result files, and the same once more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_structseg.controls import Controls, make_controls
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.inference.devices import AUTO, resolve_device
from napari_structseg.inference.predictor import Predictor, prior_for
from napari_structseg.inference.recipe import (
    FileReference,
    ModelReference,
    Recipe,
    check_prior,
    check_same,
    make_recipe,
    read_recipe,
    refer_to,
    voxel_hash,
    write_recipe,
)
from napari_structseg.inference.results import prepare_folder, remove_results, render_results
from napari_structseg.io.channels import read_channels
from napari_structseg.io.nifti import write_volume
from napari_structseg.io.weights import find_model, load_weights, read_spec
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.priors import Update

DEFAULT_SAMPLES = 10

FilePath = str | os.PathLike[str]
Report = Callable[[str, float], None]
"""Told what is being done, and which fraction of it is."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A prediction that has passed every check that needs no network."""

    paths: tuple[Path, ...]
    image: Image
    images: tuple[FileReference, ...]
    model: ModelReference
    network: SegmentationNetwork
    spec: ModelSpec
    controls: Controls
    samples: int
    threads: int
    out: Path


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
    model: FilePath,
    out: FilePath,
    *,
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

    ``mean.nii.gz`` holds the labels of the mean, ``sample-000.nii.gz`` and so on those of the
    samples, all uint8; ``entropy.nii.gz`` holds the entropy of the marginal in nats, float32:
    of the softmax averaged over the samples, or of the mean's softmax where there are none.
    A model's prior refines labels; the entropy is always that of the model alone.
    Sample ``k`` is ``Noise(seed, k + 1)``: the one that the viewer calls ``k + 1``. All lie on the
    voxel grid of the image's file. ``recipe.json`` is written last.

    Parameters
    ----------
    image
        A NIfTI or PNG file. For several channels: a 4-D NIfTI file, or one file for each.
    model
        Name of a shipped model, or a .safetensors file.
    out
        Folder for the results, made if it is missing.
    samples
        How many samples to write; may be 0.
    seed, temperature
        See :class:`Controls`.
    class_scale
        Scale of each class by name; 1 for those that are not named.
    iterations
        Iterations of mean field with the model's prior, 0 for none; None: as many as the model
        was made for. This and what follows down to `nudges` is for models with a prior only.
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
        If a control, the number of samples or the device is not valid, or if the model has no
        prior to control.
    InputError
        If the image or the folder cannot be used, or results are there already; or if mean field
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
    path = find_model(os.fspath(model))
    spec = read_spec(path)
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
    settings.update(_of_prior(spec, asked))
    controls = make_controls(spec.class_names, **settings)
    if samples < 0:
        raise ConfigError(f"The number of samples must be 0 or more, but it is {samples}.")
    if threads is not None and threads < 1:
        raise ConfigError(f"The number of threads must be 1 or more, but it is {threads}.")
    task = _prepare(
        image,
        os.fspath(model),
        controls,
        samples=samples,
        device=device,
        threads=threads or torch.get_num_threads(),
        out=Path(out),
        overwrite=overwrite,
    )
    return _run(task, report)


def reproduce(
    recipe: FilePath,
    image: FilePath | Sequence[FilePath],
    out: FilePath,
    *,
    model: FilePath | None = None,
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
    model
        Where the model is, if not where the recipe says.
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
        As for :func:`predict`; if the image or the model is not the recipe's; or, after writing
        them, if the results are not the recipe's to the last voxel.
    """
    wanted = read_recipe(recipe)
    name = wanted.model.model if model is None else os.fspath(model)
    spec = read_spec(find_model(name))
    controls = make_controls(
        spec.class_names,
        seed=wanted.seed,
        temperature=wanted.controls.temperature,
        class_scale=dict(wanted.controls.class_scale),
        **wanted.controls.of_prior(),
    )
    task = _prepare(
        image,
        name,
        controls,
        samples=wanted.samples,
        device=wanted.device if device is None else device,
        threads=wanted.threads,
        out=Path(out),
        overwrite=overwrite,
        wanted=wanted,
    )
    made = _run(task, report)
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


def _of_prior(spec: ModelSpec, asked: dict[str, Any]) -> dict[str, Any]:
    """Controls of a model's prior: what is not None, and its own number of iterations if not.

    Raises
    ------
    ConfigError
        If something was asked for and the model has no prior.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    if spec.prior is not None:
        return {"iterations": spec.prior.iterations, **given}
    if given:
        raise ConfigError(
            f"A model with a prior was expected for {', '.join(given)}, but {spec.name!r} has "
            "none. Leave that out, or choose a model that was trained with a prior: 'structseg "
            "info' tells."
        )
    return {}


def _prepare(
    image: FilePath | Sequence[FilePath],
    model: str,
    controls: Controls,
    *,
    samples: int,
    device: str,
    threads: int,
    out: Path,
    overwrite: bool,
    wanted: Recipe | None = None,
) -> _Task:
    """Check all that can go wrong because of what came in, before anything is computed."""
    weights = find_model(model)
    reference = ModelReference(model=model, **refer_to(weights).model_dump())
    network, spec = load_weights(weights, resolve_device(device))
    files = [image] if isinstance(image, str | os.PathLike) else image
    paths = tuple(Path(one) for one in files)
    opened = read_channels(paths)
    Predictor(network, spec).check(opened, refined=spec.prior is not None and controls.refines)
    images = tuple(refer_to(path) for path in paths)
    if wanted is not None:
        check_same("model", [reference], [wanted.model])
        check_same("image", images, wanted.images)
        check_prior(wanted, spec)
    prepare_folder(out, paths, overwrite=overwrite)
    return _Task(paths, opened, images, reference, network, spec, controls, samples, threads, out)


def _run(task: _Task, report: Report | None) -> Recipe:
    tell = report or _tell_nobody
    predictor = Predictor(task.network, task.spec)
    outputs = {}
    with _torch_threads(task.threads):
        distribution = predictor.predict(
            task.image, report=lambda fraction: tell("Running the model", fraction)
        )
        prior = prior_for(task.network, task.image)
        results = render_results(distribution, task.controls, task.samples, prior)
        for done, (name, array) in enumerate(results, start=1):
            if done == 1:
                # Mean field may fail on its way to the first result.
                remove_results(task.out)
            write_volume(
                task.out / name,
                array,
                task.image.geometry,
                dtype=array.dtype,
                description=f"napari-structseg {name.partition('.')[0]} of {task.spec.name}",
            )
            outputs[name] = voxel_hash(array)
            tell("Writing results", done / (task.samples + 2))
    recipe = make_recipe(
        task.model,
        task.images,
        task.controls,
        task.spec.class_names,
        has_prior=task.spec.prior is not None,
        samples=task.samples,
        device=str(predictor.device),
        threads=task.threads,
        outputs=outputs,
        arguments=[*(str(path) for path in task.paths), "--out", str(task.out)],
    )
    write_recipe(task.out, recipe)
    return recipe


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tell_nobody(what: str, fraction: float) -> None:
    """Report nothing."""
