"""The state of an exploration: what the user has chosen, in one evented model.

Everything the user can choose is a field here, and nothing else holds it: panels bind to fields,
scripts set them, undo and autosave serialise them. The state knows nothing of what was computed:
:func:`napari_structseg.session.resolve.resolve` makes a request of it.

Longer than other modules, since most of it declares fields, which are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated, Any, Literal

from psygnal import EmissionInfo, EventedModel, SignalInstance
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    field_serializer,
)

from napari_structseg.controls import MEAN, Controls, Coordinate, Settings
from napari_structseg.devices import AUTO
from napari_structseg.distributions import Strokes
from napari_structseg.errors import InputError
from napari_structseg.prediction.augmented import Augmentation
from napari_structseg.prediction.given import MembersAs
from napari_structseg.prediction.precision import Precision
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.refine.changes import Changes
from napari_structseg.render.places import Place
from napari_structseg.session.messages import Modes, Show

DEFAULT_THUMBNAILS = 9


Label = Annotated[int, Field(ge=0, le=255)]

Opacity = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

VoxelSize = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


def _as_strokes(value: object) -> Strokes:
    if isinstance(value, Strokes):
        return value
    if not isinstance(value, str):
        raise ValueError(f"strokes, or their text, were expected, but {type(value)} came")
    try:
        return Strokes.from_json(value)
    except InputError as error:
        raise ValueError(str(error)) from error


def _as_place(value: object) -> Place:
    if isinstance(value, Place):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a place, or its text, was expected, but {type(value)} came")
    try:
        return Place.from_json(value)
    except InputError as error:
        raise ValueError(str(error)) from error


WrittenStrokes = Annotated[
    Strokes, PlainValidator(_as_strokes), PlainSerializer(Strokes.to_json, return_type=str)
]

WrittenPlace = Annotated[
    Place, PlainValidator(_as_place), PlainSerializer(Place.to_json, return_type=str)
]


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mean(_Choice):
    """The mean of the distribution."""

    kind: Literal["mean"] = "mean"


class Sample(_Choice):
    """One sample of the series."""

    kind: Literal["sample"] = "sample"
    number: int = Field(ge=1, lt=2**31, description="Which sample; the first is 1.")


class LatentPosition(_Choice):
    """A position in the latent space, in standard deviations of the latent prior from its mean."""

    kind: Literal["latent"] = "latent"
    position: tuple[Coordinate, ...] = Field(min_length=1)


Chosen = Annotated[Mean | Sample | LatentPosition, Field(discriminator="kind")]


class _Evented(EventedModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    # Of the state that this is a part of.
    _together: Callable[[], AbstractContextManager[None]] = PrivateAttr(default=nullcontext)

    def update(self, values: EventedModel | dict[str, Any], recurse: bool = True) -> None:
        """Set several fields as one action, see `ExplorerState.together`."""
        with self._together():
            super().update(values, recurse)


class ControlsState(_Evented, Settings):
    """The controls while they are moved. What is pictured is one field: `chosen`.

    Setting a field checks it and tells whoever is bound to it. :attr:`sample` and :attr:`latent`
    are two ways to write `chosen`.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    chosen: Annotated[
        Chosen,
        Field(description="What is pictured: the mean, a sample, or a position in latent space."),
    ] = Mean()

    @property
    def sample(self) -> int:
        """The chosen sample; 0 for the mean, and where a latent position is chosen."""
        return self.chosen.number if isinstance(self.chosen, Sample) else MEAN

    @sample.setter
    def sample(self, number: int) -> None:
        self.chosen = Mean() if number == MEAN else Sample(number=number)

    @property
    def latent(self) -> tuple[float, ...]:
        """The chosen latent position; empty where the mean or a sample is chosen."""
        return self.chosen.position if isinstance(self.chosen, LatentPosition) else ()

    @latent.setter
    def latent(self, position: tuple[float, ...]) -> None:
        self.chosen = LatentPosition(position=tuple(position)) if position else Mean()

    def frozen(self) -> Controls:
        """These controls as they are now, for rendering and for recipes."""
        fields = {name: getattr(self, name) for name in Settings.model_fields}
        return Controls(**fields, sample=self.sample, latent=self.latent)

    def take(self, controls: Controls) -> None:
        """Set every field from frozen controls, as one change for each field that differs."""
        chosen: Mean | Sample | LatentPosition = Mean()
        if controls.latent:
            chosen = LatentPosition(position=controls.latent)
        elif controls.sample != MEAN:
            chosen = Sample(number=controls.sample)
        settings = {name: getattr(controls, name) for name in Settings.model_fields}
        self.update({**settings, "chosen": chosen})


class SourceState(_Evented):
    """What a run is asked for: an image, a model, and how they meet."""

    image: Annotated[
        str | None,
        Field(description="Name of the image layer; None: there is none."),
    ] = None
    model: Annotated[
        str | None,
        Field(description="Name of a shipped model, or the path of a file of weights or maps."),
    ] = None
    device: Annotated[str, Field(description="auto, cpu, cuda:0, ...")] = AUTO
    precision: Annotated[
        Precision,
        Field(description="What a network computes in: float32, bfloat16, or auto."),
    ] = "auto"
    roi: Annotated[
        RegionOfInterest | None,
        Field(
            description="Slices of a volume that a 2-D model is applied to; None: those that are "
            "shown when it is run, as `n_slices` and `box` say."
        ),
    ] = None
    n_slices: Annotated[
        int,
        Field(ge=1, description="How many slices around the one that is shown."),
    ] = 1
    box: Annotated[
        str | None,
        Field(description="Name of a shapes layer that marks a part of them; None: all of them."),
    ] = None
    intensity_window: Annotated[
        tuple[float, float] | None,
        Field(description="Intensities seen as 0 and 1; None: as the model says."),
    ] = None
    members_as: Annotated[
        MembersAs,
        Field(
            description="Of predictions of other programs, and of test-time augmentation: whether "
            "they are shown as they are, or a normal is fitted to their logits."
        ),
    ] = "members"
    augment: Annotated[
        tuple[Augmentation, ...],
        Field(description="What a deterministic model's image is changed by; empty: nothing."),
    ] = ()
    prior: Annotated[
        str | None,
        Field(description="Another model whose MRF refines the labels; None: the model's own."),
    ] = None
    spacing: Annotated[
        tuple[VoxelSize, ...] | None,
        Field(
            min_length=1,
            max_length=3,
            description="Voxel size in mm along each axis, for an image that does not say its own.",
        ),
    ] = None


class DisplayState(_Evented):
    """What is shown of the distribution, and how much beside the picture itself."""

    show: Annotated[Show, Field(description="What is drawn over the image.")] = Show.LABELS
    changes: Annotated[
        Changes,
        Field(description="Which labels that the MRF changed are highlighted."),
    ] = Changes.NONE
    stop_when_converged: Annotated[
        bool,
        Field(description="Run mean field no further than until it has converged."),
    ] = False
    cut_volume: Annotated[
        bool,
        Field(description="Cut the whole volume by the CRF, too, not the visible slice alone."),
    ] = True
    modes: Annotated[
        Modes,
        Field(description="How many modes the samples are grouped into."),
    ] = Modes.AUTO
    n_thumbnails: Annotated[
        int,
        Field(ge=0, description="Samples in the strip, the mean not counted."),
    ] = DEFAULT_THUMBNAILS
    hidden_classes: Annotated[
        frozenset[Label],
        Field(description="Labels of the classes that are not drawn over the image."),
    ] = frozenset()
    class_opacity: Annotated[
        tuple[Opacity, ...],
        Field(description="Opacity of each class, in label order. Empty: 1 for every class."),
    ] = ()
    latent_axes: Annotated[
        tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]],
        Field(description="Directions of the latent space that are shown across and up."),
    ] = (0, 1)
    orientation_letters: Annotated[
        bool,
        Field(description="Whether letters at the edges of the view say which side is which."),
    ] = True
    open_sections: Annotated[
        frozenset[str],
        Field(
            description="Sections of the dock that are open: what is folded away is not computed."
        ),
    ] = frozenset({"samples", "latent", "show", "spread", "strokes", "result"})

    def fold(self, section: str, *, is_open: bool) -> None:
        """Open or close a section."""
        others = self.open_sections - {section}
        self.open_sections = others | {section} if is_open else others

    def opacities(self, n_classes: int) -> tuple[float, ...]:
        """How opaque each class is drawn, in label order; 0 for those that are hidden."""
        given = self.class_opacity if len(self.class_opacity) == n_classes else (1.0,) * n_classes
        return tuple(
            0.0 if label in self.hidden_classes else opacity for label, opacity in enumerate(given)
        )

    @field_serializer("open_sections", "hidden_classes")
    def _in_order(self, members: frozenset[Any]) -> list[Any]:
        # The same state gives the same JSON.
        return sorted(members)


class CorrectionState(_Evented):
    """What the user has said of the image by hand."""

    strokes: Annotated[
        WrittenStrokes | None,
        Field(
            description="Voxels of the image, of which the user has said the class; None: nothing "
            "was said."
        ),
    ] = None
    here: Annotated[
        WrittenPlace | None,
        Field(description="The place of the image of which is asked what else it could be."),
    ] = None


class FinetuningState(_Evented):
    """What the next fine-tuning is asked for, see `finetuning.settings.FinetuneSettings`."""

    learns_from_shown: Annotated[
        bool, Field(description="Whether the corrections of the image that is shown count.")
    ] = True
    sessions: Annotated[
        frozenset[str],
        Field(description="Folders of sessions of other images, whose corrections count, too."),
    ] = frozenset()
    learn_from: Annotated[
        Literal["result", "locked", "strokes"], Field(description="Which voxels carry loss.")
    ] = "result"
    what: Annotated[Literal["all", "last", "head"], Field(description="Which weights learn.")] = (
        "all"
    )
    steps: Annotated[int, Field(ge=1, le=100_000, description="Steps of the optimiser.")] = 200
    minutes: Annotated[
        int, Field(ge=0, le=10_000, description="Minutes after which it ends; 0: steps decide.")
    ] = 0
    learning_rate: Annotated[
        float, Field(gt=0, le=1, allow_inf_nan=False, description="Highest learning rate.")
    ] = 1e-4
    weights_every: Annotated[
        int, Field(ge=1, le=100_000, description="Steps from one look at the weights to the next.")
    ] = 50
    shows_each: Annotated[
        bool, Field(description="Whether what new weights predict is shown whenever there are any.")
    ] = False
    replay: Annotated[
        str,
        Field(description="Folder of the data that the model was trained on; empty: no replay."),
    ] = ""
    is_held: Annotated[
        bool, Field(description="Whether weights are held near the start, against forgetting.")
    ] = True

    @field_serializer("sessions")
    def _in_order(self, members: frozenset[str]) -> list[str]:
        # The same state gives the same JSON.
        return sorted(members)


class ExplorerState(BaseModel):
    """Everything the user has chosen about one viewer. It round-trips through JSON.

    The parts are never replaced. Each tells of its own fields (``state.controls.events``), and
    ``state.changed`` of all of them, with dotted name and new value:
    ``("controls.temperature", 1.4)``.

    Examples
    --------
    >>> state = ExplorerState()
    >>> state.controls.sample = 3
    >>> ExplorerState.model_validate_json(state.model_dump_json()) == state
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: SourceState = Field(default_factory=SourceState)
    controls: ControlsState = Field(default_factory=ControlsState)
    display: DisplayState = Field(default_factory=DisplayState)
    correction: CorrectionState = Field(default_factory=CorrectionState)
    finetuning: FinetuningState = Field(default_factory=FinetuningState)

    _changed: SignalInstance = PrivateAttr(
        default_factory=lambda: SignalInstance((str, object), name="changed")
    )
    _settled: SignalInstance = PrivateAttr(
        default_factory=lambda: SignalInstance((frozenset,), name="settled")
    )
    _depth: int = PrivateAttr(default=0)
    _touched: set[str] = PrivateAttr(default_factory=set)

    def __eq__(self, other: object) -> bool:
        # Who listens is no part of what was chosen, and pydantic would compare it.
        return isinstance(other, ExplorerState) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as any mutable value

    @property
    def changed(self) -> SignalInstance:
        """Emits the dotted name of a field and its new value."""
        return self._changed

    @property
    def settled(self) -> SignalInstance:
        """Emits the dotted names of all fields that one action has changed, once it is over."""
        return self._settled

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one action of all changes inside: `settled` is emitted once, at the end."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._touched:
                touched = frozenset(self._touched)
                self._touched.clear()
                self._settled.emit(touched)

    def model_post_init(self, _context: Any) -> None:  # noqa: ANN401 -- as pydantic declares it
        """Listen to the parts."""
        for name in type(self).model_fields:
            part: _Evented = getattr(self, name)
            part._together = self.together
            part.events.connect(self._on_change(name))

    def _on_change(self, part: str) -> Any:  # noqa: ANN401 -- a slot
        def emit(info: EmissionInfo) -> None:
            name = f"{part}.{info.signal.name}"
            with self.together():
                self._touched.add(name)
                self.changed.emit(name, info.args[0])

        return emit

    def restore(self, json: str) -> None:
        """Take every field from a state that was written as JSON.

        Raises
        ------
        pydantic.ValidationError
            If it is no such state. Nothing has changed then.
        """
        other = ExplorerState.model_validate_json(json)
        with self.together():
            for name in type(self).model_fields:
                source: EventedModel = getattr(other, name)
                part: EventedModel = getattr(self, name)
                part.update({field: getattr(source, field) for field in type(source).model_fields})
