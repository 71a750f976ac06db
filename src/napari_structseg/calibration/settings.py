"""What a calibration is asked for, checked before data and model are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from napari_structseg.calibration.scores import SCORES
from napari_structseg.cohort.cases import Selection
from napari_structseg.devices import AUTO
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.weights import SUFFIX
from napari_structseg.models.calibration_spec import ScoreName
from napari_structseg.results.request import SAMPLES_MAX

# As many as the dock's ranges of volumes are of.
SAMPLES = 20

Only = Literal["spread", "domain"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is calibrated, and on what.

    Attributes
    ----------
    dataset
        Folder of a data set as `structseg train` reads it.
    model
        Name of a shipped model, or a file.
    out
        The file to write, ``*.safetensors``.
    score
        What is minimised, see `calibration.scores`.
    n_samples, seed
        Samples of each case, and from which their seeds follow.
    by_class
        Whether classes have scales of their own, beside the temperature.
    only
        Fit only how far samples stray, or only what images the model serves; None: both.
    selection
        Which cases and raters.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...
    """

    dataset: Path
    model: str
    out: Path
    score: ScoreName = "likelihood"
    n_samples: int = SAMPLES
    seed: int = 7
    by_class: bool = True
    only: Only | None = None
    selection: Selection = field(default_factory=Selection)
    device: str = AUTO

    @property
    def data_name(self) -> str:
        """Of the data set, without its folders, which are another machine's."""
        return self.dataset.resolve().name[:200]


def check_settings(wanted: Calibration, *, overwrite: bool) -> None:
    """Refuse settings that make no sense for any data set.

    Parameters
    ----------
    wanted
        The settings.
    overwrite
        Whether a file that is there may be replaced.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    InputError
        If the file cannot be written, or is there already.
    """
    if not 2 <= wanted.n_samples <= SAMPLES_MAX:
        raise ConfigError(
            f"--samples must be 2 or more, up to {SAMPLES_MAX}, but it is {wanted.n_samples}."
        )
    if not 0 <= wanted.seed < 2**31:
        raise ConfigError(f"--seed must be 0 or more, below 2^31, but it is {wanted.seed}.")
    limit = wanted.selection.limit
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be 1 or more, but it is {limit}.")
    if wanted.score not in SCORES:
        raise ConfigError(f"--score must be one of {', '.join(SCORES)}, but it is {wanted.score}.")
    if wanted.only not in (None, *get_args(Only)):
        raise ConfigError(f"--only must be spread or domain, but it is {wanted.only}.")
    out = wanted.out
    if out.suffix != SUFFIX:
        raise ConfigError(f"--out needs a file named *{SUFFIX}, but it is {out.name!r}.")
    if not out.parent.is_dir():
        raise InputError(f"There is no folder {out.parent} for {out.name}. Create it first.")
    if out.exists() and not overwrite:
        raise InputError(
            f"{out} is there already. Choose another name, or replace it with --overwrite."
        )
