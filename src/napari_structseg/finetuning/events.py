"""What a fine-tuning run tells, as JSON lines: one event a line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from napari_structseg.training.checkpoint import ValidationScore

Reason = Literal[
    "finished", "cancelled", "orphaned", "diverged", "out of memory", "refused", "crashed"
]
"""How a run ended. Orphaned: the program that began it has gone; crashed: a fault of ours."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Started(_Event):
    """Everything was read and checked; the first step comes."""

    event: Literal["started"] = "started"
    step: int = Field(description="Steps taken before, if a run goes on.")
    steps: int
    n_learning: int = Field(description="Numbers that learn.")
    n_weights: int = Field(description="Of so many.")
    held_out: str = Field(description="What the validation is on, in words; empty: there is none.")


class Doing(_Event):
    """What takes time before, between and after the steps, in words."""

    event: Literal["doing"] = "doing"
    what: str


class Scored(_Event):
    """A validation."""

    event: Literal["scored"] = "scored"
    score: ValidationScore
    of: Literal["corrections", "replay"] = Field(
        "corrections", description="On corrected voxels, or on cases of the replayed data set."
    )


class Stepped(_Event):
    """A step was taken."""

    event: Literal["stepped"] = "stepped"
    step: int
    steps: int
    loss: float = Field(description="In nats per voxel.")
    elapsed: float = Field(description="Seconds since the run began, waiting included.")
    remaining: float = Field(description="Seconds that the rest is expected to take.")


class Written(_Event):
    """Weights were written that can be looked at."""

    event: Literal["written"] = "written"
    step: int
    path: str
    sha256: str


class Shrunk(_Event):
    """There was too little memory for a step; it is taken again with less."""

    event: Literal["shrunk"] = "shrunk"
    patch: tuple[int, ...]
    batch: int


class Paused(_Event):
    """The run waits until it is told to go on, or goes on."""

    event: Literal["paused"] = "paused"
    is_paused: bool


class Ended(_Event):
    """The last event."""

    event: Literal["ended"] = "ended"
    reason: Reason
    message: str = Field("", description="For the user; empty where nothing is to be said.")
    step: int = 0
    weights: str | None = Field(None, description="The weights to look at; None: there are none.")
    helped: bool | None = Field(
        None, description="Whether they score better than before; None: there was no validation."
    )


Event = Started | Doing | Scored | Stepped | Written | Shrunk | Paused | Ended
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def read_event(line: str | bytes) -> Event:
    """Read a line.

    Raises
    ------
    pydantic.ValidationError
        If it is none.
    """
    return _ADAPTER.validate_json(line)
