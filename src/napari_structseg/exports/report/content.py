"""What a report says: the picture, the numbers, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from napari_structseg.distributions import DomainCheck
from napari_structseg.exports.report.plane import Window
from napari_structseg.exports.samples import SampleSet
from napari_structseg.image import Image
from napari_structseg.models import ClassSpec


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model is, in words; empty: it does not say.

    Attributes
    ----------
    name, description
        Of the model.
    data
        What it was trained on.
    licence
        Of its weights.
    """

    name: str
    description: str = ""
    data: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ReportContent:
    """Everything that one page shows.

    Attributes
    ----------
    image
        What was segmented.
    classes
        In label order.
    shown
        Which labelling is shown: the mean, sample 3, ...
    samples
        The labelling, and samples of the same distribution.
    model
        What made it; None: it was not noted.
    domain
        Whether the model serves the image; None: nothing was looked for.
    facts
        How it was made, as pairs of a name and what it is.
    command
        A command that makes it again; empty: none does.
    window
        Intensities that are shown black and white; None: percentiles.
    made
        When the report was made.
    """

    image: Image
    classes: Sequence[ClassSpec]
    shown: str
    samples: SampleSet
    model: ModelFacts | None = None
    domain: DomainCheck | None = None
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    window: Window | None = None
    made: datetime = field(default_factory=lambda: datetime.now().astimezone())
