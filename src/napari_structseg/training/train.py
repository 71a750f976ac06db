"""`napari_structseg.train`: a training run from Python, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from napari_structseg.devices import AUTO, resolve_device
from napari_structseg.errors import ConfigError, WeightsError
from napari_structseg.training.config import TrainConfig, check_patch, read_config, with_options
from napari_structseg.training.ddp import joined, local_device
from napari_structseg.training.sources import build_run
from napari_structseg.training.start import require_start, start_from
from napari_structseg.training.trainer import (
    BEST_NAME,
    CHECKPOINT_NAME,
    WEIGHTS_NAME,
    Progress,
    Trainer,
)

FilePath = str | os.PathLike[str]


def train(
    dataset: FilePath,
    config: FilePath | TrainConfig,
    out: FilePath,
    *,
    start: FilePath | None = None,
    resume: bool = False,
    fold: int | None = None,
    workers: int | None = None,
    device: str = AUTO,
    report: Callable[[Progress], None] | None = None,
) -> Path:
    """Train a model on a data set, as ``structseg train`` does.

    In a script that torchrun starts, its processes train the model together.

    Parameters
    ----------
    dataset
        Folder of a data set, see docs/training.md.
    config
        TOML file with the training configuration, or what was read from one.
    out
        Folder for the checkpoint and the weights.
    start
        Start from the weights of a model with the same architecture, channels and classes.
    resume
        Continue the run in `out` where it stopped.
    fold, workers
        In place of the configuration's.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...
    report
        Called after every step. What it raises stops the run.

    Returns
    -------
    weights
        File with the weights of the last step; ``best.safetensors`` beside it has the best score
        on the validation cases.

    Raises
    ------
    ConfigError, InputError, WeightsError, MemoryLimitError
        If configuration, data, folder or start do not fit, before the first step.

    Examples
    --------
    >>> weights = train("Dataset001_Hippocampus", "hippocampus.toml", "run")  # doctest: +SKIP
    """
    read = config if isinstance(config, TrainConfig) else read_config(Path(config))
    settings = with_options(read, fold=fold, workers=workers)
    check_patch(settings)
    require_start(settings, given=start is not None or resume)
    chosen = resolve_device(local_device(device))
    check_folder(Path(out), resume=resume)
    with joined(chosen) as group:
        spec, source, validator = build_run(settings, Path(dataset))
        initial = None
        if start is not None:
            initial, spec = start_from(os.fspath(start), spec, frozen=settings.model_frozen)
        trainer = Trainer(
            settings,
            spec,
            source,
            Path(out),
            device=chosen,
            validate=validator,
            initial=initial,
            resume=resume,
            group=group,
        )
        return trainer.run(report if group.is_first else None)


def check_folder(out: Path, *, resume: bool) -> None:
    """Refuse a folder that holds a run that is not to be continued, or none that is.

    Raises
    ------
    ConfigError
        If there is a run, and it is not continued.
    WeightsError
        If there is nothing to continue.
    """
    there = [name for name in (CHECKPOINT_NAME, WEIGHTS_NAME, BEST_NAME) if (out / name).exists()]
    if there and not resume:
        raise ConfigError(
            f"{out} already holds a run ({', '.join(there)}). Continue it with --resume, or choose "
            "another folder for --out."
        )
    if resume and CHECKPOINT_NAME not in there:
        raise WeightsError(
            f"There is no {CHECKPOINT_NAME} in {out} to resume from. Start without --resume, or "
            "name the folder of the run to continue."
        )
