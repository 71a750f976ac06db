"""What is said of a program in a TOML file beside it, and the model that both make."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError, field_validator, model_validator

from napari_structseg.errors import ConfigError, WeightsError
from napari_structseg.models.backbone_spec import FrozenSpec, PositiveInt
from napari_structseg.models.build import build_network
from napari_structseg.models.head_spec import HeadSpec
from napari_structseg.models.kinds import LowRankSpec, PointSpec
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.palette import palette
from napari_structseg.models.program_spec import MAX_PROGRAM_BYTES, OutputsSpec
from napari_structseg.models.programs.archive import Members, kind_of, read_archive
from napari_structseg.models.spec import ClassSpec, IntensitySpec, ModelSpec, TrainingRecord

SUFFIX = ".toml"
_MAX_BYTES = 1 << 20
# Numbers of other fields are bounded by their own types.
_LARGEST = 1 << 40

# What nobody can guess, and how it is written.
EXAMPLES = {
    "name": 'name = "my network"',
    "program": 'program = "network.pt"',
    "dimensions": "dimensions = 3",
    "channels": 'channels = ["T1"]',
    "classes": 'classes = ["background", "lesion"]',
    "patch": "patch = [96, 96, 96]  # z, y, x in voxels",
    "intensity": "\n".join(
        (
            "[intensity]  # tables come last in the file",
            'kind = "zscore"  # or "percentile" or "window", with low = and high =',
        )
    ),
    "rank": "rank = 10",
}


class ProgramIntensity(IntensitySpec):
    """How intensities are brought to the range that a program was trained on."""

    span: tuple[float, float] = Field(
        (0.0, 1.0), description="What low and high become, in place of 0 and 1."
    )


class ProgramOutputs(OutputsSpec):
    """What a program returns."""

    channels: PositiveInt | None = Field(
        None, description="Channels of the mean; None: as many as classes. 1 for a sigmoid."
    )
    n_features: Annotated[int, Field(ge=0, le=65536)] = Field(
        0, description="Channels of the features; 0: it returns none."
    )


class ProgramSettings(FrozenSpec):
    """The fields of the TOML file. Spatial sizes are in the order z, y, x or y, x."""

    name: str = Field(min_length=1, max_length=200, description="Name of the model.")
    program: str = Field(min_length=1, description="The program's file, beside this one.")
    description: str = ""
    dimensions: Literal[2, 3]
    channels: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    classes: Annotated[tuple[str | ClassSpec, ...], Field(min_length=2, max_length=255)]
    spacing: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] | None = None
    patch: tuple[PositiveInt, ...]
    sizes: Literal["patch", "multiple"] = "patch"
    divisor: Annotated[int, Field(gt=0, le=1024)] = 1
    overlap: Annotated[float, Field(ge=0, le=0.75)] = 0.5
    axes: Literal["zyx", "xyz"] = "zyx"
    orientation: str = "RAS"
    zero_is_background: bool = False
    head: Literal["deterministic", "ssn"] = "deterministic"
    rank: Annotated[int, Field(ge=0, le=1024)] | None = None
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-5
    intensity: ProgramIntensity
    outputs: ProgramOutputs = ProgramOutputs()
    data: str = ""
    licence: str = ""

    @field_validator("program")
    @classmethod
    def _is_a_name(cls, program: str) -> str:
        if Path(program).name != program:
            raise ValueError(f"the name of a file in the same folder was expected, not {program!r}")
        return program

    @model_validator(mode="after")
    def _rank_fits(self) -> ProgramSettings:
        if (self.rank is None) == (self.head == "ssn"):
            raise ValueError("rank goes with head = 'ssn' (0: no factor), and only with it")
        return self

    def spec(self, kind: str, n_bytes: int) -> ModelSpec:
        """The specification of the model that these settings and a program make.

        Parameters
        ----------
        kind
            Of the program.
        n_bytes
            Its size.

        Raises
        ------
        ConfigError
            If the settings do not fit together.
        """
        outputs = self.outputs.model_dump(exclude={"channels", "n_features"})
        colors = palette(len(self.classes))
        fields = {
            "name": self.name,
            "description": self.description,
            "dimensions": self.dimensions,
            "channels": self.channels,
            "classes": [
                {"name": one, "color": color} if isinstance(one, str) else one
                for one, color in zip(self.classes, colors, strict=True)
            ],
            "spacing": self.spacing,
            "patch": self.patch,
            "intensity": self.intensity.model_dump(exclude={"span"}),
            "zero_is_background": self.zero_is_background,
            "program": {
                "kind": kind,
                "n_bytes": n_bytes,
                "n_outputs": self.outputs.channels or len(self.classes),
                "n_features": self.outputs.n_features,
                "span": self.intensity.span,
                "outputs": outputs,
                **{name: getattr(self, name) for name in _OF_PROGRAM},
            },
            "head": self._head(),
            "training": TrainingRecord(data=self.data, licence=self.licence),
        }
        try:
            return ModelSpec.model_validate(fields)
        except ValidationError as error:
            raise ConfigError(_said(error, f"The settings of {self.name!r}")) from error

    def _head(self) -> HeadSpec:
        if self.head == "deterministic":
            return PointSpec()
        return LowRankSpec(rank=self.rank or 1, diagonal_only=self.rank == 0, epsilon=self.epsilon)


_OF_PROGRAM = ("sizes", "divisor", "overlap", "axes", "orientation")


def read_settings_table(path: Path) -> dict[str, Any]:
    """The fields of a settings file as they are written.

    Raises
    ------
    ConfigError
        If it is no TOML file of a moderate size.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(
                f"{path} has {path.stat().st_size} bytes, but the settings of a program have at "
                f"most {_MAX_BYTES}. Is it another file?"
            )
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the settings {path}: {error.strerror}.") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deep.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    return table


def make_settings(table: Mapping[str, Any], name: str) -> ProgramSettings:
    """Settings of these fields, checked.

    Parameters
    ----------
    table
        Fields of :class:`ProgramSettings`.
    name
        Where they come from, for messages.

    Raises
    ------
    ConfigError
        With the lines that are missing, and one line for each field that is wrong.
    """
    try:
        return ProgramSettings.model_validate(table)
    except ValidationError as error:
        raise ConfigError(_said(error, name)) from error
    except OverflowError as error:
        raise ConfigError(f"{name}: a number is too large for any program.") from error


def read_settings(path: Path) -> ProgramSettings:
    """The settings of a file.

    Raises
    ------
    ConfigError
        As :func:`make_settings` and :func:`read_settings_table`.
    """
    return make_settings(read_settings_table(path), str(path))


def read_program(path: Path) -> tuple[bytes, Members]:
    """The bytes of a program's file, and its members.

    Raises
    ------
    WeightsError
        If there is no such file, or it is no archive of bounded size.
    """
    try:
        if path.stat().st_size > MAX_PROGRAM_BYTES:
            raise WeightsError(f"{path} is larger than any program that is opened (4 GB).")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read the program {path}: {error.strerror}.") from error
    return content, read_archive(content, path.name)


def program_model(
    settings: ProgramSettings, content: bytes, members: Members
) -> tuple[SegmentationNetwork, ModelSpec]:
    """The model that settings and a program make; the program is not opened yet.

    Raises
    ------
    ConfigError, WeightsError
        If they do not fit together.
    """
    spec = settings.spec(kind_of(members, settings.program), len(content))
    network = build_network(spec)
    network.load_state_dict({"program": torch.frombuffer(bytearray(content), dtype=torch.uint8)})
    return network.eval(), spec


def _said(error: ValidationError, name: str) -> str:
    """What is wrong with settings, the missing lines as they are to be written."""
    missing, wrong = [], []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "missing" and where in EXAMPLES:
            missing.append(where)
        else:
            said = problem["msg"].removeprefix("Value error, ")
            wrong.append(f"  {where}: {said}" if where else f"  {said}")
    parts = [f"{name} does not describe a program."]
    if missing:
        parts += ["Add these lines, with what is true of your network:", *lines_of(missing)]
    if wrong:
        parts += ["Correct:", *wrong]
    return "\n".join([*parts, "docs/your-own-network.md explains each field."])


def lines_of(fields: Sequence[str], known: Mapping[str, str] | None = None) -> list[str]:
    """TOML lines for fields, tables last: what is known of them, or an example."""
    lines = {name: (known or {}).get(name, EXAMPLES[name]) for name in EXAMPLES if name in fields}
    return [f"  {line}" for text in lines.values() for line in text.splitlines()]
