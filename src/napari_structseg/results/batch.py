"""Predictions without a screen: from image files to result files, and the same once more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from napari_structseg.devices import AUTO, resolve_device
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.results.recipe import Recipe
from napari_structseg.results.recipe_files import read_recipe
from napari_structseg.results.request import FilePath, files, make_request, takes_options
from napari_structseg.results.task import Report, prepare


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


@takes_options
def predict(
    image: FilePath | Sequence[FilePath],
    model: FilePath | None,
    out: FilePath,
    *,
    report: Report | None = None,
    **options: Any,  # noqa: ANN401 -- the fields of a request, which checks them
) -> Recipe:
    """Segment an image; write the mean, samples, their entropy and volumes, and the recipe.

    ``mean.nii.gz`` holds the labels of the mean, ``sample-001.nii.gz`` and so on those of the
    samples, all uint8; ``entropy.nii.gz`` holds the entropy of the marginal in nats, float32:
    of the softmax averaged over the samples, or of the mean's softmax where there are none.
    Where an MRF refines the labels, the probabilities are those of mean field, in the entropy, too.
    Sample ``k`` is ``Noise(seed, k)``, the one that the viewer calls ``k``. All lie on the
    voxel grid of the image's file. ``volumes.csv`` has the volumes of the mean's classes, and their
    range from 5 to 95 % over the samples, as written. ``recipe.json`` is written last.

    Parameters
    ----------
    image
        A NIfTI or PNG file, or a folder of DICOM files. For several channels: a 4-D NIfTI file,
        or one file or folder for each.
    model
        Name of a shipped model, or a .safetensors file; None with `probabilities`.
    out
        Folder for the results, made if it is missing.
    report
        Told about progress.
    **options
        {options}

    Returns
    -------
    recipe
        What was written as ``recipe.json``.

    Raises
    ------
    ConfigError
        If a control, the number of samples or the device is not valid, if there is not either a
        model or probabilities, if the MRF does not fit, if there is no MRF to control, or if
        the model has no use for slices or a window.
    InputError
        If the image, the probabilities or the folder cannot be used, or results are there
        already; or if mean field leaves the finite numbers, which stops it wherever it is.
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
    return prepare(make_request(images=image, model=model, out=out, **options)).run(report)


def reproduce(
    recipe: FilePath,
    image: FilePath | Sequence[FilePath],
    out: FilePath,
    *,
    model: FilePath | None = None,
    probabilities: FilePath | Sequence[FilePath] | None = None,
    members: FilePath | Sequence[FilePath] | None = None,
    prior: FilePath | None = None,
    strokes: FilePath | None = None,
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
        Where the model is, and the one whose MRF was used, if not where the recipe says.
    probabilities
        The class probabilities it was made from, under any name.
    members
        The predictions of other programs that it was made from, in their order.
    strokes
        The strokes it was made with, under any name.
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
        As for :func:`predict`; if the image, the model, the probabilities or the MRF is not the
        recipe's; or, after writing them, if the results are not the recipe's to the last voxel.
    """
    wanted = read_recipe(recipe)
    maps, given = files(probabilities), files(members)
    _check_kind(wanted, model, maps, given, prior)
    request = wanted.request(
        files(image),
        out,
        model=model,
        probabilities=maps,
        members=given,
        prior=prior,
        strokes=strokes,
        device=device,
        overwrite=overwrite,
    )
    made = prepare(request, wanted).run(report)
    different = sorted(
        name for name, sha256 in wanted.outputs.items() if made.outputs.get(name) != sha256
    )
    if different:
        changes = wanted.changed_versions()
        if made.device != wanted.device:
            changes.append(f"device {wanted.device}, now {made.device}")
        raise InputError(
            f"The results are in {request.out}, but {', '.join(different)} differ from those that "
            f"the recipe describes. Changed since: {', '.join(changes) or 'only the machine'}. "
            "Use the recipe's versions and device to get the same voxels."
        )
    return made


def _check_kind(
    recipe: Recipe,
    model: FilePath | None,
    maps: Sequence[FilePath],
    members: Sequence[FilePath],
    prior: FilePath | None,
) -> None:
    """Raise ConfigError unless what was given is of the kind that a recipe was made from."""
    if recipe.members and (model is not None or maps or not members):
        names = ", ".join(one.name for one in recipe.members)
        raise ConfigError(
            f"The recipe was made from predictions of other programs ({names}). Give them with "
            "--members, and no --model or --probabilities."
        )
    if members and not recipe.members:
        raise ConfigError(
            "The recipe was not made from predictions of other programs. Leave out --members."
        )
    if recipe.probabilities and (model is not None or not maps):
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
