"""From a configuration and a folder of data to everything a training run needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from napari_structseg.data.cases import PreparedCase, ReadCase, in_ras, prepare, read_case
from napari_structseg.data.dataset import Case, Dataset, read_dataset
from napari_structseg.data.splits import read_fold, spread
from napari_structseg.data.stack import (
    Stack,
    StackCases,
    is_stack,
    read_stack,
)
from napari_structseg.data.stack_table import TRAIN, VALIDATION, StackCase
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.checks import is_nifti_path
from napari_structseg.io.nifti import read_image
from napari_structseg.models import ClassSpec, ModelSpec, TrainingRecord
from napari_structseg.models.palette import palette
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.footprint import check_patches
from napari_structseg.training.input.batches import PatchSource
from napari_structseg.training.input.label_maps import TISSUE_NAMES, LabelMap
from napari_structseg.training.input.patches import ImagePatches
from napari_structseg.training.input.synthesis import BrainSynthesis
from napari_structseg.training.input.synthesis_settings import SynthesisSettings
from napari_structseg.training.start import check_two_classes
from napari_structseg.training.validation import (
    Validator,
    validate_on_cases,
    validate_on_patches,
)

Report = Callable[[int, int, str], None]
Run = tuple[ModelSpec, PatchSource, Validator | None]

_SYNTHETIC_CHANNEL = "T1-like"
_VALIDATION_STREAM = 7
_N_VALIDATION_PATCHES = 16


def build_run(config: TrainConfig, folder: Path, report: Report | None = None) -> Run:
    """Read and check all data of a run.

    Parameters
    ----------
    config
        The configuration.
    folder
        For ``source = "images"``, a data set in nnU-Net's raw layout or a stack, see
        :mod:`~napari_structseg.data.stack`; for
        ``source = "brain-label-maps"``, a folder of NIfTI files with FreeSurfer's labels.
    report
        Called after each case that was read, with its number, the number of all, and its name.

    Returns
    -------
    spec
        The model to train.
    source
        Patches of the cases to train on.
    validator
        Scores on the last ``config.validation_cases`` cases, in order of name, or on as many of
        the validation split of a stack; None without.

    Raises
    ------
    ConfigError, InputError, MemoryLimitError
        If data and configuration do not fit; naming the file and what to do.
    """
    build = _from_images if config.source == "images" else _from_label_maps
    return build(config, folder, report or _silent)


def _silent(_done: int, _total: int, _name: str) -> None:
    pass


def _from_images(config: TrainConfig, folder: Path, report: Report) -> Run:
    if is_stack(folder):
        return _from_stack(config, read_stack(folder), report)
    dataset = read_dataset(folder)
    files, n_training = _split(config, dataset)
    spec = _spec(config, dataset.channels, dataset.classes)
    for case in files:
        _check_rater(config, len(case.labels), f"the case {case.name!r}")
    cases, held_out = [], []
    for number, case in enumerate(files, start=1):
        read = read_case(case, dataset, config.dimensions)
        prepared = prepare(
            read,
            intensity=config.intensity,
            spacing=config.spacing,
        )
        # All are prepared, to check them: validation itself is on the case's own grid.
        if number <= n_training:
            cases.append(prepared)
        else:
            _check_size(prepared, config, read.where)
            held_out.append(read)
        report(number, len(files), case.name)
    validator = validate_on_cases(held_out, spec) if held_out else None
    return spec, ImagePatches(cases, config), validator


def _check_size(case: PreparedCase, config: TrainConfig, where: str) -> None:
    """Refuse a validation case that prediction would refuse, before the first step."""
    stride = 1 << (len(config.backbone.widths) - 1)
    size = case.image.shape[1:]
    if max(size) <= stride:
        raise InputError(
            f"{where} has {size} voxels on the grid of the network, but prediction needs more "
            f"than {stride} along at least one axis. Leave this case out, or use fewer levels."
        )


def _split(config: TrainConfig, dataset: Dataset) -> tuple[list[Case], int]:
    """The cases of a run, those to train on first, and how many these are."""
    if config.fold is None:
        return list(dataset.cases), _n_training(config, len(dataset.cases), dataset.folder)
    by_name = {case.name: case for case in dataset.cases}
    fold = read_fold(dataset.folder, config.fold, by_name)
    held_out = spread(sorted(fold.val), config.validation_cases)
    return [by_name[name] for name in (*sorted(fold.train), *held_out)], len(fold.train)


def _from_stack(config: TrainConfig, stack: Stack, report: Report) -> Run:
    if stack.ndim != config.dimensions:
        raise ConfigError(
            f"The configuration has dimensions = {config.dimensions}, but the images of "
            f"{stack.folder} are {stack.ndim}-D. Set dimensions = {stack.ndim}."
        )
    if config.spacing not in (None, stack.spacing):
        raise ConfigError(
            f"The images of {stack.folder} have the spacing {list(stack.spacing)} mm and are not "
            f"resampled, but the configuration says {list(config.spacing or ())}. Resample them "
            "before they are stacked, or remove spacing from the configuration."
        )
    if config.fold is not None:
        raise ConfigError(
            f"fold = {config.fold} belongs to a data set of files, but {stack.folder} is a stack, "
            "whose cases.csv says which case is in which split. Leave the fold out."
        )
    _check_rater(config, len(stack.raters), str(stack.folder))
    training, validation = stack.of_split(TRAIN), stack.of_split(VALIDATION)
    if not training:
        raise ConfigError(f"No case of {stack.folder} is in the split {TRAIN!r}. Name some.")
    # Spread evenly, since neighbours in the table are often of one patient.
    held_out = spread(validation, config.validation_cases)
    report(len(training), len(stack.cases), stack.folder.name)
    spec = _spec(config, stack.channels, stack.classes)
    validator = None
    if held_out:
        validator = validate_on_cases(_OneByOne(stack, held_out), spec)
    return spec, ImagePatches(StackCases(stack, training, config.intensity), config), validator


@dataclass(frozen=True)
class _OneByOne:
    """Cases of a stack, each read when it is its turn, so that few are in memory."""

    stack: Stack
    cases: Sequence[StackCase]

    def __iter__(self) -> Iterator[ReadCase]:
        return map(self.stack.read, self.cases)


def _check_rater(config: TrainConfig, n_raters: int, what: str) -> None:
    if config.rater is not None and config.rater >= n_raters:
        raise ConfigError(
            f"rater = {config.rater} asks for rater {config.rater + 1}, counted from 1, but {what} "
            f"has {n_raters}. Choose from 0 to {n_raters - 1}, or leave rater out to train on all."
        )


def _from_label_maps(config: TrainConfig, folder: Path, report: Report) -> Run:
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}. Give the folder of the label maps.")
    files = sorted(path for path in folder.iterdir() if is_nifti_path(path))
    if not files:
        raise ConfigError(f"{folder} holds no label maps (.nii or .nii.gz).")
    n_training = _n_training(config, len(files), folder)
    spec = _spec(config, (_SYNTHETIC_CHANNEL,), TISSUE_NAMES)
    maps = []
    for path in files:
        maps.append(_read_label_map(path))
        report(len(maps), len(files), path.name)
    held_out = maps[n_training:]
    settings = SynthesisSettings(several_protocols=config.several_protocols)
    validator = None
    if held_out:
        synthesis = BrainSynthesis(held_out, config.patch, settings)
        patches = [
            synthesis.patch(np.random.default_rng((config.seed, _VALIDATION_STREAM, index)))
            for index in range(_N_VALIDATION_PATCHES)
        ]
        validator = validate_on_patches(patches, spec)
    return spec, BrainSynthesis(maps[:n_training], config.patch, settings), validator


def _read_label_map(path: Path) -> LabelMap:
    image = read_image(path)
    if image.ndim != 3 or image.n_channels != 1 or (image.data % 1).any():
        raise InputError(
            f"{path} must be a 3-D map of whole numbers, but it is {image.ndim}-D with "
            f"{image.n_channels} channels and values of {image.data.dtype}. Is it an image?"
        )
    try:
        return LabelMap.from_freesurfer(in_ras(image)[0].astype(np.int64))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _n_training(config: TrainConfig, n_cases: int, folder: Path) -> int:
    if n_cases <= config.validation_cases:
        raise ConfigError(
            f"validation_cases = {config.validation_cases} leaves nothing to train on: {folder} "
            f"holds {n_cases} cases. Add cases, or lower validation_cases."
        )
    return n_cases - config.validation_cases


def _spec(config: TrainConfig, channels: Sequence[str], classes: Sequence[str]) -> ModelSpec:
    check_two_classes(config, classes)
    check_patches(config, len(channels))
    colors = config.colors or palette(len(classes))
    if len(colors) != len(classes):
        raise ConfigError(
            f"colors has {len(colors)} entries, but there are {len(classes)} classes: "
            f"{', '.join(classes)}. Give one colour for each, background first."
        )
    return ModelSpec(
        name=config.name,
        description=config.description,
        dimensions=config.dimensions,
        channels=tuple(channels),
        classes=tuple(
            ClassSpec(name=name, color=color) for name, color in zip(classes, colors, strict=True)
        ),
        spacing=config.spacing,
        patch=config.patch,
        intensity=config.intensity,
        zero_is_background=config.loss.zero_is_background,
        backbone=config.backbone,
        head=config.head,
        prior=config.prior_spec,
        training=TrainingRecord(
            recipe=config.model_dump(mode="json", exclude={"data", "licence", "description"}),
            data=config.data,
            licence=config.licence,
            software=f"napari-structseg {version('napari-structseg')}",
        ),
    )
