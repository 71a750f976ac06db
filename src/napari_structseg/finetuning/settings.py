"""What a fine-tuning run is asked for: one validated model, written beside what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_structseg.errors import ConfigError
from napari_structseg.io.atomic import atomic_path

What = Literal["all", "last", "head"]
"""What learns: all weights; the last layers and the head; the head alone."""

LearnFrom = Literal["result", "locked", "strokes"]
"""Which voxels carry loss: those of the whole result, those that were locked, those of strokes."""

SETTINGS_NAME = "finetune.json"
_MAX_BYTES = 10_000_000

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CaseFiles(_Frozen):
    """A corrected case as files on one voxel grid."""

    image: tuple[Path, ...] = Field(min_length=1, description="One file for each channel.")
    labels: Path = Field(description="The class of each voxel, 0, 1, ... as the model has them.")
    other_raters: tuple[Path, ...] = Field((), description="The labels of other raters.")
    reviewed: Path | None = Field(
        None,
        description="Not 0 where the labels were reviewed; with learn_from = 'strokes' the "
        "strokes: 0 for nothing, k + 1 for class k. None: all voxels were reviewed.",
    )


class SessionFolder(_Frozen):
    """A session of corrections, as the Correct dock keeps it."""

    folder: Path
    image: tuple[Path, ...] = Field(
        (), description="Files of its image, one for each channel; none: the one that it names."
    )


class FinetuneSettings(_Frozen):
    """Everything that determines a fine-tuning run."""

    format_version: Literal[1] = 1
    model: str = Field(description="File of the model to start from, or the name of a shipped one.")
    cases: tuple[CaseFiles, ...] = ()
    sessions: tuple[SessionFolder, ...] = ()
    learn_from: LearnFrom = Field("result", description="Which voxels carry loss.")
    what: What = Field("all", description="Which weights learn.")
    stochastic_rank: Annotated[int, Field(ge=0, le=100)] = Field(
        0,
        description="Put the head of a Stochastic Segmentation Network with a factor of this rank "
        "on a deterministic model; 0: the model keeps its head.",
    )
    steps: Count = Field(200, description="Steps of the optimiser.")
    minutes: Positive | None = Field(
        None,
        description="Minutes after which no further step is taken, waiting not counted; a run that "
        "goes on has as many again. None: the steps alone decide.",
    )
    learning_rate: Positive = Field(1e-4, description="Highest learning rate.")
    patch: tuple[Count, ...] | None = Field(
        None, description="Patch size in voxels, in array order; none: that of the model."
    )
    batch: Count = Field(2, description="Patches per step, which go through one after the other.")
    samples: Count | None = Field(
        None, description="Monte Carlo samples of the likelihood; none: as the model was trained."
    )
    pull: Annotated[float, Field(ge=0, le=1)] = Field(
        0.001,
        description="Share of the way back to the start that each weight goes with each step, at "
        "the highest learning rate; 0: nothing holds the weights.",
    )
    replay: Path | None = Field(
        None, description="Data set that the model was trained on, to draw patches of; none."
    )
    replay_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Share of the patches that come from it."
    )
    held_out: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Corrected cases held out for validation, the last ones; none: a quarter of "
        "them, and of a single case a part; 0: no validation.",
    )
    validation_samples: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        None,
        description="Samples drawn of each validation case; none: 8 where a case has several "
        "raters, otherwise the mean alone.",
    )
    validate_every: Count = Field(50, description="Steps between validations.")
    weights_every: Count = Field(
        50, description="Steps between checkpoints, whose weights can be looked at."
    )
    augment: bool = Field(True, description="Change patches at random, as the model was trained.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Fixes every random choice.")
    device: str = Field("auto", description="auto, cpu, cuda:0, ...")
    threads: Count | None = Field(
        None, description="Threads of the CPU; none: all but one, in a process of its own."
    )

    @model_validator(mode="after")
    def _has_cases(self) -> FinetuneSettings:
        if not self.cases and not self.sessions:
            raise ValueError("there is no corrected case: name files, or a session")
        if self.learn_from != "result" and any(case.reviewed is None for case in self.cases):
            raise ValueError(
                f"learn_from = {self.learn_from!r} needs a file for each case that says where"
            )
        return self

    def write(self, folder: Path) -> None:
        """Write them to a folder.

        Raises
        ------
        InputError
            If the system refuses.
        """
        with atomic_path(folder / SETTINGS_NAME) as temporary:
            temporary.write_text(self.model_dump_json(indent=2), encoding="utf-8")


def make_settings(**fields: object) -> FinetuneSettings:
    """Settings of these fields.

    Raises
    ------
    ConfigError
        Naming every field that is wrong.
    """
    try:
        return FinetuneSettings.model_validate(fields)
    except ValidationError as error:
        raise _refused("The settings of fine-tuning are not valid", error) from error


def read_settings(folder: Path) -> FinetuneSettings:
    """The settings that a run was made with.

    Raises
    ------
    ConfigError
        If there are none, or they cannot be read.
    """
    path = folder / SETTINGS_NAME
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is too large for the settings of a run. Is it another file?")
        return FinetuneSettings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"There is no fine-tuning run in {folder}: cannot read {SETTINGS_NAME} "
            f"({error.strerror or error}). Name the folder of a run."
        ) from error
    except ValidationError as error:
        raise _refused(f"{path} is not valid", error) from error


def _refused(what: str, error: ValidationError) -> ConfigError:
    lines = [
        f"  {'.'.join(map(str, p['loc'])) or 'settings'}: {p['msg'].removeprefix('Value error, ')}"
        for p in error.errors()
    ]
    return ConfigError("\n".join([f"{what}:", *lines, "Correct these; see docs/finetuning.md."]))
