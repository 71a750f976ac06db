"""The training loop: patches in, weights out, resumable at any step.

Over 300 lines: the loop, its progress and the files that it resumes from must agree step by step.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from napari_structseg.errors import Cancelled, InputError
from napari_structseg.interrupts import Terminated, deferred_stop
from napari_structseg.io.weights import save_weights
from napari_structseg.models import ModelSpec, SegmentationNetwork, build_network
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.training.checkpoint import (
    CheckpointState,
    GecoState,
    MarginState,
    ValidationScore,
    check_same_run,
    labellings_of,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from napari_structseg.training.config import TrainConfig, check_patch
from napari_structseg.training.ddp import ALONE, Group, check_group
from napari_structseg.training.footprint import check_step
from napari_structseg.training.input.batches import PatchSource, batches, drawn
from napari_structseg.training.learner import Learner
from napari_structseg.training.log import TrainingLog
from napari_structseg.training.schedule import learning_rate
from napari_structseg.training.start import (
    adopt,
    check_prior,
    check_two_classes,
    require_start,
)
from napari_structseg.training.tuning import Tuning
from napari_structseg.training.validation import Validator

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.safetensors"
WEIGHTS_NAME = "model.safetensors"
BEST_NAME = "best.safetensors"
# Over so many steps the time of a step is averaged.
_TIMED_STEPS = 20
_STOPS: tuple[type[KeyboardInterrupt] | None, ...] = (None, KeyboardInterrupt, Terminated)


@dataclass(frozen=True, slots=True)
class Progress:
    """What the loop reports after every step.

    Attributes
    ----------
    step, steps
        Steps taken, and to take in all.
    loss
        Of this step, in nats per voxel.
    seconds_per_step
        Mean over the last steps of how long one takes, validation and checkpoints not counted.
    score
        Validation scores, at steps where there is validation.
    """

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    score: ValidationScore | None = None


class Trainer:
    """Trains one network in one folder.

    Parameters
    ----------
    config
        The configuration.
    spec
        The model to build, see :class:`napari_structseg.models.ModelSpec`.
    source
        Patches.
    folder
        Where checkpoints and weights go.
    device
        Where to train.
    validate
        Scores of a network on validation data; None: no validation.
    initial
        A network of the same specification to start from, with a prior of its own or without;
        None: fresh weights.
    resume
        Continue from the checkpoint in ``folder``. On the CPU the continued run equals an
        uninterrupted one with as many threads bit for bit: all randomness derives from
        (seed, step).
    tuning
        What fine-tuning asks for: what of the network learns, and what holds it; the MRF of
        ``spec`` may then be none of the configuration, and stays what it is. None: all of the
        network learns.
    enough
        Asked after every step whether it is to be the last one; None: all steps are taken.
    group
        The processes that train the network together; the first of them writes and validates.

    Raises
    ------
    ConfigError
        If the checkpoint was made with another configuration, or for other channels or classes;
        if configuration and specification disagree about the prior, or only a prior is to be
        trained and there is no network to start from; if the patch is too small for the network.
    MemoryLimitError
        If a step cannot fit into memory; nothing was built.
    WeightsError
        If there is nothing to resume from, or it is damaged.
    """

    def __init__(
        self,
        config: TrainConfig,
        spec: ModelSpec,
        source: PatchSource,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        validate: Validator | None = None,
        initial: SegmentationNetwork | None = None,
        resume: bool = False,
        tuning: Tuning | None = None,
        enough: Callable[[], bool] | None = None,
        group: Group = ALONE,
    ) -> None:
        self.config = config
        self.spec = spec
        self.folder = folder
        self.device = torch.device(device)
        self._source = source
        self._validate = validate
        self._tuning = tuning
        self._enough = enough
        self._group = group
        check_patch(config)
        if tuning is None or config.prior is not None:
            check_prior(config, spec)
        check_two_classes(config, spec.class_names)
        require_start(config, given=initial is not None or resume)
        check_group(config, group)
        share = config.model_copy(update={"batch": config.batch // group.size})
        check_step(share, spec, self.device)
        # The caller's own random numbers are left as they are.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = build_network(spec)
        if initial is not None:
            adopt(network, initial)
        self.network = network.to(self.device)
        self._learner = Learner(config, self.network, tuning, group)
        self._saved_step: int | None = None
        self._state = CheckpointState(
            step=0,
            config_json=config.model_dump_json(),
            channels=spec.channels,
            classes=spec.class_names,
        )
        if resume:
            self._resume()
        group.agree(self.network)

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, with its state."""
        return self._learner.optimiser

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self._state.step

    @property
    def saved_step(self) -> int | None:
        """The step of the checkpoint in the folder; None before there is one."""
        return self._saved_step

    @property
    def best_path(self) -> Path:
        """Where the weights with the best validation score are, once one counted."""
        return self.folder / BEST_NAME

    @property
    def history(self) -> list[ValidationScore]:
        """Validation scores so far."""
        return self._state.history

    def run(self, report: Callable[[Progress], None] | None = None) -> Path:
        """Train to the configured number of steps.

        Ctrl-C and SIGTERM are held back until the step is done; then a checkpoint and the weights
        are written and KeyboardInterrupt or Terminated is raised. A second one stops at once: what
        was learned since the last checkpoint is lost.

        Parameters
        ----------
        report
            Called after every step. What it raises stops the run; KeyboardInterrupt and Cancelled
            save first.

        Returns
        -------
        Path
            The weights of the last step.

        Raises
        ------
        InputError
            If the folder cannot be made or written to.
        MemoryLimitError
            If the GPU runs out of memory.
        StructSegError
            If training diverged.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Cannot make the folder {self.folder}: {error.strerror}. Choose another."
            ) from error
        # Only between two steps do network, optimiser and step count belong together.
        with (
            deferred_stop(signal.SIGINT, signal.SIGTERM) as came,
            self._log() as log,
            closing(self._steps()) as steps,
        ):
            for progress in self._saved_when_cancelled(steps):
                try:
                    if log is not None:
                        log.write(
                            progress.step,
                            progress.loss,
                            learning_rate(self.config, progress.step - 1),
                            progress.seconds_per_step,
                            progress.score,
                        )
                    if report is not None:
                        report(progress)
                    if (stop := self._stop(came())) is not None:
                        raise stop
                except (KeyboardInterrupt, Cancelled):
                    self.save()
                    raise
        self.save()
        return self.folder / WEIGHTS_NAME

    def _log(self) -> AbstractContextManager[TrainingLog | None]:
        return TrainingLog(self.folder, self.step) if self._group.is_first else nullcontext()

    def _stop(self, came: type[KeyboardInterrupt] | None) -> type[KeyboardInterrupt] | None:
        """What all processes stop for after this step: a signal reaches them one by one."""
        found = self._group.largest(_STOPS.index(came), self.device)
        return _STOPS[found]

    def save(self) -> None:
        """Write the checkpoint and the weights."""
        if self._group.is_first:
            self._write()
        self._saved_step = self.step

    def _write(self) -> None:
        margin = self._learner.objective.margin
        save_checkpoint(
            self.folder / CHECKPOINT_NAME,
            self._state,
            self.network,
            self.optimiser,
            None if margin is None else margin.found,
        )
        save_weights(self.folder / WEIGHTS_NAME, self.network, self._trained_spec())

    def _saved_when_cancelled(self, steps: Generator[Progress]) -> Generator[Progress]:
        """The same steps; a validation, which comes between two of them, may be cancelled."""
        try:
            yield from steps
        except Cancelled:
            self.save()
            raise

    def _steps(self) -> Generator[Progress]:
        config = self.config
        taken: deque[float] = deque(maxlen=_TIMED_STEPS)
        share = self._group.share(config.batch)
        with closing(batches(self._source, config, self.step, share)) as upcoming:
            while self.step < config.steps:
                started = time.perf_counter()
                images, labels = next(upcoming)
                loss = self._learner.update(
                    images.to(self.device), labels.to(self.device), self.step
                )
                self._end_epoch()
                elapsed = time.perf_counter() - started
                taken.append(elapsed)
                self._advance(elapsed)
                score = None
                is_last = self.step == config.steps or (self._enough is not None and self._enough())
                if self.step % config.validate_every == 0 or is_last:
                    score = self._score(loss)
                if self.step % config.checkpoint_every == 0:
                    self.save()
                yield Progress(self.step, config.steps, loss, sum(taken) / len(taken), score)
                if is_last:
                    return

    def _end_epoch(self) -> None:
        """Learn the CRF of an epoch whose last step was just taken."""
        margin = self._learner.objective.margin
        done = self.step + 1
        if margin is None:
            return
        if done % (margin.config.epoch_steps or self.config.steps) and done < self.config.steps:
            return
        self.network.eval()
        patches = (drawn(self._source, self.config, *place) for place in margin.found)
        margin.end_epoch(lambda images: self.network(images.to(self.device)).mean, patches)

    def _advance(self, seconds: float) -> None:
        geco, margin = self._learner.objective.geco, self._learner.objective.margin
        progress = {
            "step": self.step + 1,
            "seconds": self._state.seconds + seconds,
            "geco": geco and GecoState(**{k: getattr(geco, k) for k in GecoState.model_fields}),
            "margin": margin and MarginState.of(margin.weights, margin.guess),
        }
        self._state = self._state.model_copy(update=progress)

    def _score(self, loss: float) -> ValidationScore | None:
        if self._validate is None or not self._group.is_first:
            return None
        self.network.eval()
        # Until its likelihood is trained, samples of a model say nothing.
        counts = self._counts(self.step)
        n_samples = self.config.validation_samples if counts else 0
        if self.crf is None:
            found = self._validate(self.network, n_samples)
        else:
            found = self._validate(self.network, n_samples, self.crf)
        score = ValidationScore(step=self.step, loss=loss, **asdict(found))
        earlier = [one for one in self.history if self._counts(one.step)]
        if counts and all(score.better_than(one) for one in earlier):
            save_weights(self.best_path, self.network, self._trained_spec())
        self._state = self._state.model_copy(update={"history": [*self.history, score]})
        return score

    def _counts(self, step: int) -> bool:
        """Whether the weights of a step can be the best: its likelihood was trained, if any is.

        Where a CRF is learned, once there is one.
        """
        if self.config.max_margin is not None and step < self._first_epoch:
            return False
        head, first = self.config.head, self.config.loss.mean_only_steps
        has_likelihood = head.loss == "likelihood" and head.is_stochastic
        return not has_likelihood or step > first or first == self.config.steps

    def _trained_spec(self) -> ModelSpec:
        record = self.spec.training.model_copy(update={"steps": self.step})
        update: dict[str, object] = {"training": record}
        if self.crf is not None:
            update["crf"] = self.crf
        return self.spec.model_copy(update=update)

    @property
    def crf(self) -> CRFSpec | None:
        """The CRF that was learned so far; None without."""
        margin = self._learner.objective.margin
        return None if margin is None else margin.crf

    @property
    def _first_epoch(self) -> int:
        """Steps after which there is a CRF."""
        margin = self.config.max_margin
        length = None if margin is None else margin.epoch_steps
        return min(length or self.config.steps, self.config.steps)

    def _resume(self) -> None:
        checkpoint = read_checkpoint(self.folder / CHECKPOINT_NAME)
        may_differ = frozenset() if self._tuning is None else self._tuning.may_differ
        check_same_run(checkpoint.state, self.config, self.spec, self.folder, may_differ)
        restore(checkpoint, self.network, self.optimiser)
        self._saved_step = checkpoint.state.step
        self._state = checkpoint.state.model_copy(
            update={
                "channels": self.spec.channels,
                "classes": self.spec.class_names,
                "config_json": self.config.model_dump_json(),
            }
        )
        geco, learned = self._learner.objective.geco, checkpoint.state.geco
        if geco is not None and learned is not None:
            for name, value in learned:
                setattr(geco, name, value)
        margin, kept = self._learner.objective.margin, checkpoint.state.margin
        if margin is not None and kept is not None:
            margin.weights = None if kept.weights is None else np.array(kept.weights)
            margin.guess = None if kept.guess is None else np.array(kept.guess)
            margin.found = labellings_of(checkpoint, self.config)
