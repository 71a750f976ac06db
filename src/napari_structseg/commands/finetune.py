"""`structseg finetune`: a model learns from corrected cases."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from napari_structseg.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from napari_structseg.finetuning.events import Event
    from napari_structseg.finetuning.report import Report
    from napari_structseg.finetuning.settings import FinetuneSettings

_NO_FILE = "none"


def finetune(
    *,
    model: str | None = None,
    out: Path,
    case: list[tuple[str, str]] | None = None,
    reviewed: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    session: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    learn_from: Literal["result", "locked", "strokes"] = "result",
    what: Literal["all", "last", "head"] = "all",
    stochastic_rank: int = 0,
    steps: int = 200,
    minutes: float | None = None,
    learning_rate: float = 1e-4,
    patch: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)] = None,
    batch: int = 2,
    samples: int | None = None,
    pull: float = 0.001,
    replay: Path | None = None,
    replay_share: float = 0.5,
    held_out: int | None = None,
    validate_every: int = 50,
    no_augmentation: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 0,
    device: str = "auto",
    resume: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Fine-tune a model on cases that were corrected.

    Everything is read and checked before the first step. Voxels that were not reviewed carry no
    loss. The model's file is not changed. Ctrl-C keeps what was learned: --resume goes on.

    Parameters
    ----------
    model
        The model to start from: a file, or the name of a shipped one.
    out
        Folder for checkpoint, weights (tuned.safetensors) and report.json.
    case
        IMAGE LABELS of a corrected case, once for each case. An image of several channels is one
        file for each, joined by commas; so are the labels of several raters.
    reviewed
        For each --case in its order a file that is not 0 where the labels were reviewed, or
        "none". With --learn-from strokes the strokes: 0 for nothing, k + 1 for class k.
    session
        Folders of sessions of the Correct dock; see 'structseg sessions'.
    learn_from
        Which voxels carry loss: the whole result (or its reviewed part), what was locked, or
        strokes alone.
    what
        Which weights learn: all, the last level of the network and its head, or the head.
    stochastic_rank
        Put the head of a Stochastic Segmentation Network of this rank on a deterministic model.
    steps
        Steps of the optimiser.
    minutes
        Take no further step after so many minutes, whatever is left of --steps.
    learning_rate
        Highest learning rate.
    patch
        Patch size in voxels, Z Y X or Y X; unless given, that of the model.
    batch
        Patches per step.
    samples
        Monte Carlo samples of the likelihood; unless given, as the model was trained.
    pull
        Share of the way back to the start that each weight goes with each step; 0: none.
    replay
        Data set that the model was trained on, against forgetting.
    replay_share
        Share of the patches that come from it.
    held_out
        Cases held out for validation, the last ones; unless given, a quarter of them, or a fifth of
        the reviewed voxels of a single case.
    validate_every
        Steps between validations and between checkpoints.
    no_augmentation
        Take patches as they are.
    seed
        Fixes every random choice.
    device
        auto (a GPU if there is one), cpu, cuda:0, ...
    resume
        Go on with the run in --out, with the settings that it was begun with.
    """
    from napari_structseg.finetuning.settings import make_settings, read_settings

    if resume:
        if model is not None or case or session:
            raise ConfigError("--resume goes on with the model and the cases of the run in --out.")
        _run(read_settings(out), out, resume=True)
        return
    if model is None:
        raise ConfigError("Name the model to start from with --model.")
    settings = make_settings(
        model=_absolute_model(model),
        cases=_cases(case or [], reviewed),
        sessions=[{"folder": folder.absolute()} for folder in session or []],
        learn_from=learn_from,
        what=what,
        stochastic_rank=stochastic_rank,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        patch=patch,
        batch=batch,
        samples=samples,
        pull=pull,
        replay=replay,
        replay_share=replay_share,
        held_out=held_out,
        validate_every=validate_every,
        weights_every=validate_every,
        augment=not no_augmentation,
        seed=seed,
        device=device,
    )
    _run(settings, out, resume=False)


def _absolute_model(model: str) -> str:
    """A shipped name as it is; a file with its whole path, so that a run can go on elsewhere."""
    path = Path(model).expanduser()
    return str(path.absolute()) if path.is_file() else model


def _cases(cases: list[tuple[str, str]], reviewed: list[Path] | None) -> list[dict[str, object]]:
    masks = reviewed if reviewed is not None else [Path(_NO_FILE)] * len(cases)
    if len(masks) != len(cases):
        raise ConfigError(
            f"--reviewed names {len(masks)} files for {len(cases)} cases. Give one for each --case "
            f"in the same order, or {_NO_FILE!r} where all of it was reviewed."
        )
    return [
        {
            "image": [Path(one).absolute() for one in image.split(",")],
            "labels": Path(labels.split(",")[0]).absolute(),
            "other_raters": [Path(one).absolute() for one in labels.split(",")[1:]],
            "reviewed": None if str(mask) == _NO_FILE else mask.absolute(),
        }
        for (image, labels), mask in zip(cases, masks, strict=True)
    ]


def _run(settings: FinetuneSettings, out: Path, *, resume: bool) -> None:
    import signal

    from rich.console import Console

    from napari_structseg.commands.train import bars_of
    from napari_structseg.errors import Cancelled
    from napari_structseg.finetuning.gate import Gate
    from napari_structseg.finetuning.run import finetune as run
    from napari_structseg.interrupts import deferred_stop

    console = Console(highlight=False, soft_wrap=True)
    gate = Gate()
    with bars_of(console) as bars, deferred_stop(signal.SIGINT, signal.SIGTERM) as came:
        shown = _Shown(bars)

        def tell(event: Event) -> None:
            shown(event)
            if came() is not None:
                gate.cancel("stopped")

        try:
            report = run(settings, out, tell=tell, gate=gate, resume=resume)
        except (Cancelled, KeyboardInterrupt) as stop:
            given = type(stop) if isinstance(stop, KeyboardInterrupt) else came()
            raise (given or KeyboardInterrupt)(
                f"Stopped. What was learned is kept in {out}; continue with: structseg finetune "
                f"--resume --out {shlex.quote(str(out))}"
            ) from stop
    _conclude(console, report, out)


class _Shown:
    """Events as bars and lines."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID = bars.add_task("Reading", total=None, said="")

    def __call__(self, event: Event) -> None:
        from napari_structseg.commands.train import score_lines
        from napari_structseg.finetuning.events import Doing, Scored, Shrunk, Started, Stepped

        bars, console = self._bars, self._bars.console
        if isinstance(event, Doing):
            bars.update(self._task, description=event.what)
        elif isinstance(event, Started):
            bars.update(
                self._task, description="Fine-tuning", total=event.steps, completed=event.step
            )
            console.print(
                f"{event.n_learning} of {event.n_weights} weights learn; validation on "
                f"{event.held_out or 'nothing: no case is held out'}"
            )
        elif isinstance(event, Stepped):
            bars.update(self._task, completed=event.step, said=f"loss {event.loss:.4f}")
        elif isinstance(event, Scored):
            of = "replayed data, " if event.of == "replay" else ""
            for line in score_lines(event.score):
                console.print(f"step {event.score.step}: {of}{line}")
        elif isinstance(event, Shrunk):
            patch = " x ".join(map(str, event.patch))
            console.print(
                f"Too little memory for a step: it goes on with {event.batch} patches of {patch}"
            )


def _conclude(console: Console, report: Report, out: Path) -> None:
    from napari_structseg.finetuning.run import TUNED_NAME

    weights = out / TUNED_NAME
    console.print(f"Weights of step {report.weights_step}: {weights}")
    before, after = report.corrections.before, report.corrections.after
    if before is not None and after is not None:
        verdict = "better" if report.corrections.helped else "NOT better: keep the model as it is"
        console.print(
            f"Dice on what was held out: {before.mean_dice:.3f} before, {after.mean_dice:.3f} "
            f"after ({verdict})"
        )
    console.print(
        f"Next: structseg predict IMAGE.nii.gz --model {shlex.quote(str(weights))} --out RESULTS"
    )
