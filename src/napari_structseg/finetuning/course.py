"""How far a run is, made of the events that it tells: what a window shows of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_structseg.finetuning.events import (
    Doing,
    Ended,
    Event,
    Paused,
    Scored,
    Shrunk,
    Started,
    Stepped,
    Written,
)
from napari_structseg.training.checkpoint import ValidationScore

_MOST_LOSSES = 600


@dataclass
class Course:
    """A run so far.

    Attributes
    ----------
    losses
        Step and loss; where there are many, means of neighbours.
    before
        The validation of the model as it was; None: none was made, or not here.
    scores
        Validations since, of weights at their steps.
    written
        The newest weights that can be looked at.
    shrunk
        What patch and batch had to be made, where memory was short.
    """

    step: int = 0
    steps: int = 0
    elapsed: float = 0.0
    remaining: float | None = None
    doing: str = "Starting"
    held_out: str = ""
    is_paused: bool = False
    losses: list[tuple[float, float]] = field(default_factory=list)
    before: ValidationScore | None = None
    scores: list[ValidationScore] = field(default_factory=list)
    written: Written | None = None
    shrunk: Shrunk | None = None
    ended: Ended | None = None

    def take(self, event: Event) -> None:
        """Follow an event."""
        match event:
            case Doing():
                self.doing = event.what
            case Started():
                self.step, self.steps, self.doing = event.step, event.steps, ""
                self.held_out = event.held_out
            case Stepped():
                self._step(event)
            case Scored(of="corrections"):
                if event.score.step == 0 and not self.losses:
                    self.before = event.score
                else:
                    self.scores.append(event.score)
            case Written():
                self.written = event
            case Shrunk():
                self.shrunk = event
            case Paused():
                self.is_paused = event.is_paused
            case Ended():
                self.ended, self.doing = event, ""

    def _step(self, event: Stepped) -> None:
        self.step, self.steps, self.doing = event.step, event.steps, ""
        self.elapsed, self.remaining = event.elapsed, event.remaining
        self.losses.append((event.step, event.loss))
        if len(self.losses) > _MOST_LOSSES:
            # The newest ones stay as they are: there the user looks.
            half = _MOST_LOSSES // 2
            old, new = self.losses[:half], self.losses[half:]
            pairs = zip(old[::2], old[1::2], strict=True)
            self.losses = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in pairs] + new
