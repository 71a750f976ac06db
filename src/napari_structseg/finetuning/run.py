"""A fine-tuning run, from its settings to weights and a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from napari_structseg.data.cases import ReadCase
from napari_structseg.devices import resolve_device
from napari_structseg.errors import Cancelled, Diverged, MemoryLimitError
from napari_structseg.finetuning.cases import read_cases
from napari_structseg.finetuning.events import (
    Doing,
    Event,
    Scored,
    Shrunk,
    Started,
    Stepped,
    Written,
)
from napari_structseg.finetuning.gate import Gate
from napari_structseg.finetuning.memory import shrunk
from napari_structseg.finetuning.patches import Mixed, prepared, replay_run
from napari_structseg.finetuning.report import Report, Scores, read_report
from napari_structseg.finetuning.settings import FinetuneSettings
from napari_structseg.finetuning.split import Split, split
from napari_structseg.finetuning.start import (
    Start,
    learning_names,
    load_start,
    serving,
    training_config,
)
from napari_structseg.io.weights import copy_model, load_weights, save_weights, weights_hash
from napari_structseg.memory import is_out_of_memory
from napari_structseg.models import SegmentationNetwork
from napari_structseg.training.checkpoint import ValidationScore
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.input.batches import PatchSource
from napari_structseg.training.input.patches import ImagePatches
from napari_structseg.training.train import check_folder
from napari_structseg.training.trainer import (
    BEST_NAME,
    WEIGHTS_NAME,
    Progress,
    Trainer,
)
from napari_structseg.training.tuning import Tuning
from napari_structseg.training.validation import Validator, validate_on_cases

logger = logging.getLogger(__name__)

PARENT_NAME = "parent.safetensors"
TUNED_NAME = "tuned.safetensors"
_SAMPLES_OF_SEVERAL_RATERS = 8

Tell = Callable[[Event], None]


def finetune(
    settings: FinetuneSettings,
    folder: Path,
    *,
    tell: Tell | None = None,
    gate: Gate | None = None,
    resume: bool = False,
) -> Report:
    """Fine-tune a model on corrected cases.

    Parameters
    ----------
    settings
        What is asked for.
    folder
        Where checkpoints, weights and the report go: ``tuned.safetensors`` are the weights that
        score best of those that were looked at, or the last ones where nothing was held out.
    tell
        Told what happens, see :mod:`~napari_structseg.finetuning.events`.
    gate
        Where the run waits, and is cancelled; None: it does not.
    resume
        Go on with the run in ``folder``, whose settings these are. On the CPU with as many
        threads, the result is that of a run without interruption, bit for bit.

    Raises
    ------
    ConfigError, InputError, WeightsError, MemoryLimitError
        If settings, model, cases or folder do not fit, before the first step; MemoryLimitError
        also later, when nothing is left to make smaller.
    Diverged
        If the numbers were no longer finite; the weights before that were written.
    Cancelled
        By the gate; a checkpoint was written.
    """
    return _Run(settings, folder, tell or _silent, gate or Gate()).run(resume=resume)


def _silent(_event: Event) -> None:
    pass


class _Run:
    """The parts of a run, and how they follow each other."""

    def __init__(self, settings: FinetuneSettings, folder: Path, tell: Tell, gate: Gate) -> None:
        self._settings = settings
        self._folder = folder
        self._tell, self._gate = tell, gate
        self._began = time.monotonic()
        self._device = torch.device("cpu")

    def run(self, *, resume: bool) -> Report:
        settings, folder = self._settings, self._folder
        self._device = resolve_device(settings.device)
        check_folder(folder, resume=resume)
        self._tell(Doing(what="Reading the model and the corrections"))
        start = load_start(settings, folder / PARENT_NAME if resume else None)
        config = training_config(settings, start.spec)
        corrected = read_cases(settings, start.spec)
        start = serving(start, [case.image for case in corrected])
        parts = split(corrected, settings.held_out)
        own, n_samples = self._validator(parts, start)
        config = config.model_copy(update={"validation_samples": n_samples})
        replay = None if settings.replay is None else settings.replay.absolute()
        other = None if replay is None else replay_run(config, start.spec, replay)
        first_patch = config.patch
        cases = prepared(parts.training, start.spec)
        self._go_on()
        report = self._report(start, parts, resume=resume)
        if not resume:
            report = self._scored_before(report, start, own, other and other[2], n_samples)
            folder.mkdir(parents=True, exist_ok=True)
            settings.write(folder)
            report.write(folder)
            # The file of the user may change or go, and the run is to go on.
            copy_model(start.path, folder / PARENT_NAME)

        def source(config: TrainConfig) -> PatchSource:
            patches = ImagePatches(cases, config)
            if replay is None:
                return patches
            there = other if config.patch == first_patch else None
            run = there or replay_run(config, start.spec, replay)
            return Mixed(patches, run[1], settings.replay_share)

        trainer = self._trained(config, start, source, own, report, resume=resume)
        return self._finished(report, trainer, other and other[2])

    def _go_on(self) -> None:
        if self._gate.asked():
            raise Cancelled("The run was cancelled.")

    def _validator(self, parts: Split, start: Start) -> tuple[Validator | None, int]:
        if not parts.validation:
            return None, 0
        wanted = self._settings.validation_samples
        if wanted is None:
            several = any(len(case.raters) > 1 for case in parts.validation)
            wanted = _SAMPLES_OF_SEVERAL_RATERS if several else 0
        of: list[ReadCase] = parts.validation
        return validate_on_cases(of, start.spec, cancelled=self._gate.asked), wanted

    def _report(self, start: Start, parts: Split, *, resume: bool) -> Report:
        if resume:
            return read_report(self._folder)
        return Report(
            settings=self._settings,
            parent=start.sha256,
            model_name=start.spec.name,
            held_out=parts.said,
        )

    def _scored_before(
        self,
        report: Report,
        start: Start,
        own: Validator | None,
        replay: Validator | None,
        n_samples: int,
    ) -> Report:
        network = start.network.to(self._device).eval()
        scores = {}
        for of, validator in (("corrections", own), ("replay", replay)):
            if validator is not None:
                self._tell(Doing(what="Scoring the model as it is"))
                scores[of] = Scores(before=self._score(network, validator, n_samples, of))
        return report.model_copy(update=scores)

    def _score(
        self,
        network: SegmentationNetwork,
        validator: Validator,
        n_samples: int,
        of: str,
        step: int = 0,
    ) -> ValidationScore:
        found = validator(network, n_samples)
        score = ValidationScore(step=step, **asdict(found))
        self._tell(Scored(score=score, of="replay" if of == "replay" else "corrections"))
        return score

    def _trained(
        self,
        config: TrainConfig,
        start: Start,
        source: Callable[[TrainConfig], PatchSource],
        validator: Validator | None,
        report: Report,
        *,
        resume: bool,
    ) -> Trainer:
        """Take all steps, with less of everything where there is too little memory."""
        learns = learning_names(start.network, self._settings.what)
        tuning = Tuning(
            learns,
            {k: v.clone() for k, v in start.network.state_dict().items()},
            self._settings.pull,
        )
        told = False
        while True:
            trainer = None
            try:
                trainer = Trainer(
                    config,
                    start.spec,
                    source(config),
                    self._folder,
                    device=self._device,
                    validate=validator,
                    initial=start.network,
                    resume=resume,
                    tuning=tuning,
                    enough=self._is_time_up,
                )
                if not resume:
                    # From here on a run can go on, whatever happens.
                    trainer.save()
                if not told:
                    self._tell(self._started(trainer, learns, report))
                    told = True
                with self._gate.within(trainer.network):
                    trainer.run(self._reporter(trainer))
            except (MemoryLimitError, MemoryError, RuntimeError) as error:
                if not isinstance(error, MemoryLimitError) and not is_out_of_memory(error):
                    raise
                smaller = shrunk(config)
                if smaller is None:
                    raise MemoryLimitError(
                        "There is too little memory to fine-tune this model, even with patches of "
                        f"{' x '.join(map(str, config.patch))} voxels, one at a time. Close other "
                        "programs, choose fewer samples or only the head to learn, or use a "
                        f"machine with more memory. ({error})"
                    ) from error
                config = smaller
                if trainer is not None:
                    trainer.save()
                    resume = True
                self._tell(Shrunk(patch=config.patch, batch=config.batch))
            except Diverged as error:
                if trainer is not None:
                    trainer.save()
                raise Diverged(
                    f"The loss is no longer a finite number after step "
                    f"{trainer.step if trainer else 0}. Fine-tune again with a lower learning "
                    "rate. The last weights whose loss was finite were kept."
                ) from error
            else:
                return trainer

    def _started(self, trainer: Trainer, learns: frozenset[str], report: Report) -> Started:
        sizes = {name: one.numel() for name, one in trainer.network.named_parameters()}
        return Started(
            step=trainer.step,
            steps=trainer.config.steps,
            n_learning=sum(size for name, size in sizes.items() if name in learns),
            n_weights=sum(sizes.values()),
            held_out=report.held_out,
        )

    def _reporter(self, trainer: Trainer) -> Callable[[Progress], None]:
        every = trainer.config.checkpoint_every

        def told(progress: Progress) -> None:
            self._tell(
                Stepped(
                    step=progress.step,
                    steps=progress.steps,
                    loss=progress.loss,
                    elapsed=time.monotonic() - self._began,
                    remaining=self._remaining(progress),
                )
            )
            if progress.score is not None:
                self._tell(Scored(score=progress.score))
            if progress.step % every == 0 and trainer.saved_step == progress.step:
                path = self._folder / WEIGHTS_NAME
                self._tell(Written(step=progress.step, path=str(path), sha256=weights_hash(path)))
            self._go_on()

        return told

    def _worked(self) -> float:
        """Seconds since the run began, or went on, without waiting."""
        return time.monotonic() - self._began - self._gate.waited_seconds

    def _is_time_up(self) -> bool:
        minutes = self._settings.minutes
        return minutes is not None and self._worked() >= 60 * minutes

    def _remaining(self, progress: Progress) -> float:
        of_steps = progress.seconds_per_step * (progress.steps - progress.step)
        minutes = self._settings.minutes
        return of_steps if minutes is None else min(of_steps, max(0, 60 * minutes - self._worked()))

    def _finished(self, report: Report, trainer: Trainer, replay: Validator | None) -> Report:
        """Choose the weights, score them, and write down what was done."""
        best = best_of(trainer.history)
        path = self._folder / (WEIGHTS_NAME if best is None else BEST_NAME)
        network, spec = load_weights(path, self._device)
        of_replay = report.replay
        if replay is not None:
            self._tell(Doing(what="Scoring what it forgot"))
            step = trainer.step if best is None else best.step
            after = self._score(network, replay, 0, "replay", step)
            of_replay = Scores(before=of_replay.before, after=after)
        save_weights(self._folder / TUNED_NAME, network, spec)
        tuned = trainer.config
        report = report.model_copy(
            update={
                "corrections": Scores(before=report.corrections.before, after=best),
                "replay": of_replay,
                "n_learning": sum(
                    one.numel() for one in trainer.network.parameters() if one.requires_grad
                ),
                "patch": tuned.patch,
                "batch": tuned.batch,
                "steps": trainer.step,
                "weights_step": trainer.step if best is None else best.step,
                "weights": weights_hash(self._folder / TUNED_NAME),
                "seconds": report.seconds + time.monotonic() - self._began,
            }
        )
        report.write(self._folder)
        return report


def best_of(history: list[ValidationScore]) -> ValidationScore | None:
    """The best validation, the first of equal ones; None: there was none."""
    best: ValidationScore | None = None
    for score in history:
        if best is None or score.better_than(best):
            best = score
    return best
