"""`structseg train`: from a data set to weights."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from napari_structseg.training.checkpoint import ValidationScore
    from napari_structseg.training.config import TrainConfig
    from napari_structseg.training.sources import Run
    from napari_structseg.training.trainer import Progress, Trainer

# The loss of a single step says little.
_SMOOTHED_STEPS = 20


def train(
    dataset: Path,
    *,
    config: Path,
    out: Path,
    start: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    fold: int | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> None:
    """Train a model on a data set.

    Everything is read and checked before the first step. Ctrl-C and SIGTERM keep what was learned;
    so does a crash, up to the last checkpoint. Processes that torchrun starts share every batch.

    Parameters
    ----------
    dataset
        Folder of a data set in nnU-Net's raw layout, or of FreeSurfer label maps.
    config
        TOML file with the training configuration.
    out
        Folder for checkpoint.safetensors, model.safetensors (the last step) and best.safetensors
        (the best on the validation cases: of a stochastic model, by its samples).
    start
        Start from the weights of a model (a file, or the name of a shipped one) with the same
        architecture, channels and classes, instead of random ones. It may lack the MRF.
    resume
        Continue the run in --out where it stopped; with more steps than before, too.
    fold
        Fold of nnU-Net's splits_final.json in the data set's folder, in place of the
        configuration's.
    workers
        Threads that prepare patches, in place of the configuration's.
    device
        auto (a GPU if there is one), cpu, cuda:0, ...
    """
    from rich.console import Console

    from napari_structseg.devices import resolve_device
    from napari_structseg.training.config import check_patch, read_config, with_options
    from napari_structseg.training.ddp import joined, local_device
    from napari_structseg.training.start import require_start, start_from
    from napari_structseg.training.train import check_folder
    from napari_structseg.training.trainer import Trainer

    settings = with_options(read_config(config), fold=fold, workers=workers)
    check_patch(settings)
    require_start(settings, given=start is not None or resume)
    chosen = resolve_device(local_device(device))
    check_folder(out, resume=resume)
    with joined(chosen) as group, ExitStack() as stack:
        console = Console(highlight=False, soft_wrap=True, quiet=not group.is_first)
        bars = stack.enter_context(bars_of(console))
        spec, source, validator = _read_data(settings, dataset, bars)
        initial = None
        if start is not None:
            initial, spec = start_from(start, spec, frozen=settings.model_frozen)
        trainer = Trainer(
            settings,
            spec,
            source,
            out,
            device=chosen,
            validate=validator,
            initial=initial,
            resume=resume,
            group=group,
        )
        console.print(
            f"{spec.name}: {', '.join(spec.class_names)}; from step {trainer.step} to "
            f"{settings.steps} on {chosen}" + f", {group.size} processes" * (group.size > 1)
        )
        weights = _run(trainer, bars)
    console.print(f"Weights of the last step: {weights}")
    if trainer.best_path.exists():
        console.print(f"Weights with the best validation score: {trainer.best_path}")
    console.print(
        f"Next: structseg predict IMAGE.nii.gz --model {shlex.quote(str(weights))} --out RESULTS"
    )


def bars_of(console: Console) -> Bars:
    """Bars of what is done, with a word beside each."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        # Everything fits into 80 columns.
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
        console=console,
    )


def _read_data(settings: TrainConfig, dataset: Path, bars: Bars) -> Run:
    from napari_structseg.training.sources import build_run

    task = bars.add_task("Reading", total=None, said="")

    def report(done: int, total: int, name: str) -> None:
        bars.update(task, completed=done, total=total, said=name)

    run = build_run(settings, dataset, report)
    bars.remove_task(task)
    return run


def _run(trainer: Trainer, bars: Bars) -> Path:
    losses: deque[float] = deque(maxlen=_SMOOTHED_STEPS)
    steps = trainer.config.steps
    task = bars.add_task("Training", total=steps, completed=trainer.step, said="")
    dice = ""

    def report(progress: Progress) -> None:
        nonlocal dice
        losses.append(progress.loss)
        said = f"loss {sum(losses) / len(losses):.4f}  {progress.seconds_per_step:.2f} s/step"
        if progress.score is not None:
            for line in score_lines(progress.score):
                bars.console.print(f"step {progress.step}: {said}  {line}")
            if progress.score.dice:
                dice = f"  Dice {progress.score.mean_dice:.3f}"
        bars.update(task, completed=progress.step, said=said + dice)

    try:
        return trainer.run(report)
    except KeyboardInterrupt as interrupt:
        stopped = type(interrupt)
        if trainer.saved_step is None:
            raise stopped("Stopped before the first checkpoint.") from interrupt
        raise stopped(
            f"Stopped. Step {trainer.saved_step} of {steps} is kept in {trainer.folder}; continue "
            "with the same command and --resume."
        ) from interrupt


def score_lines(score: ValidationScore) -> Iterator[str]:
    """What a validation found, in lines."""
    sampled = bool(score.sample_dice)
    yield f"Dice{' of the mean' if sampled else ''} {_listed(score.dice, '.3f')}"
    if sampled:
        yield f"Dice of samples {_listed(score.sample_dice, '.3f')}; GED {score.ged:.3f}"
    if score.runaway:
        yield (
            "WARNING: more than twice, or less than half, the volume that the mean has in this "
            f"share of the samples: {_listed(score.runaway, '.0%')}"
        )


def _listed(values: dict[str, float], precision: str) -> str:
    return ", ".join(f"{name} {value:{precision}}" for name, value in values.items()) or (
        "not defined"
    )
