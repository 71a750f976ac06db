"""What a run was, and what it brought: written beside its weights."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_structseg.errors import InputError
from napari_structseg.finetuning.settings import FinetuneSettings
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.references import Sha256
from napari_structseg.training.checkpoint import ValidationScore

REPORT_NAME = "report.json"


class Scores(BaseModel):
    """Of the model as it was, and of the weights that the run ended with.

    Attributes
    ----------
    before, after
        Validations; None: none was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")
    before: ValidationScore | None = None
    after: ValidationScore | None = None

    @property
    def helped(self) -> bool | None:
        """Whether it is better after than before; None: it is not known."""
        if self.before is None or self.after is None:
            return None
        return self.after.better_than(self.before)


class Report(BaseModel):
    """A run. Its paths are those of this machine: it is not for others."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")
    format_version: Literal[1] = 1
    settings: FinetuneSettings
    parent: Sha256 = Field(description="Of the weights that it started from.")
    model_name: str
    held_out: str = Field("", description="What the validation is on; empty: there is none.")
    corrections: Scores = Scores()
    replay: Scores = Field(Scores(), description="On cases of the replayed data set.")
    n_learning: int = 0
    patch: tuple[int, ...] = Field((), description="After it was shrunk, if it was.")
    batch: int = 0
    steps: int = Field(0, description="Steps taken.")
    weights_step: int | None = Field(None, description="Of the weights that are offered.")
    weights: Sha256 | None = Field(None, description="Their hash; None: the run goes on.")
    seconds: float = 0.0
    began: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def write(self, folder: Path) -> None:
        """Write it to the folder of the run.

        Raises
        ------
        InputError
            If the system refuses.
        """
        with atomic_path(folder / REPORT_NAME) as temporary:
            temporary.write_text(self.model_dump_json(indent=2), encoding="utf-8")


def read_report(folder: Path) -> Report:
    """Read the report of a run.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = folder / REPORT_NAME
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path} is not the report of a fine-tuning run ({error}). Name the folder of a run."
        ) from error
