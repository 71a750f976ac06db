"""Checkpoints: network, optimiser and step in one safetensors file, without pickle."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from napari_structseg.errors import ConfigError, WeightsError
from napari_structseg.io.weights import write_tensors
from napari_structseg.models import LowRankSpec, ModelSpec, SegmentationNetwork
from napari_structseg.training.config import AS_RECORDED, TrainConfig

_METADATA_KEY = "napari_structseg_checkpoint"
# What Adam keeps of each parameter.
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}


class ValidationScore(BaseModel):
    """What :class:`~napari_structseg.training.validation.Validation` says of one step.

    Attributes
    ----------
    step
        Steps taken by then.
    loss
        Training loss of that step, in nats per voxel. It may be infinite or NaN; None: the
        network is scored as it is, without a step.
    dice
        Of the labels of the mean: class name to Dice in [0, 1], without classes whose Dice is
        not defined.
    sample_dice
        The average over samples; empty where none were drawn.
    ged
        Generalised energy distance of samples and raters; None without samples.
    runaway
        Class name to the share of samples with far more or far less of the class than the mean.
    """

    # A diverged loss must not make the checkpoint unreadable: JSON's own null is no number.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
    step: int
    loss: float | None = None
    dice: dict[str, float]
    sample_dice: dict[str, float] = Field(default_factory=dict)
    ged: float | None = None
    runaway: dict[str, float] = Field(default_factory=dict)

    @property
    def mean_dice(self) -> float:
        """Mean over the classes that have a Dice; 0 where none has."""
        return sum(self.dice.values()) / max(1, len(self.dice))

    def better_than(self, other: ValidationScore) -> bool:
        """Whether samples are nearer to the raters; without samples, whether the mean is."""
        if self.ged is None or other.ged is None:
            return self.ged is not None or (other.ged is None and self.mean_dice > other.mean_dice)
        return self.ged < other.ged


class GecoState(BaseModel):
    """What GECO has learned; see :class:`~napari_structseg.training.objectives.geco.Geco`."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
    average: float
    raw: float
    mean: float
    square: float
    n_steps: int = Field(ge=0)


class MarginState(BaseModel):
    """What :class:`~napari_structseg.training.max_margin.learning.MaxMargin` has learned."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    weights: tuple[float, float, float] | None = None
    guess: tuple[float, float, float] | None = None

    @classmethod
    def of(
        cls, weights: npt.NDArray[np.float64] | None, guess: npt.NDArray[np.float64] | None
    ) -> MarginState:
        """Weights as they are computed with."""
        numbers = [None if one is None else one.tolist() for one in (weights, guess)]
        return cls.model_validate({"weights": numbers[0], "guess": numbers[1]})


class CheckpointState(BaseModel):
    """What a checkpoint knows apart from tensors.

    Attributes
    ----------
    step
        Steps taken.
    config_json
        The training configuration.
    seconds
        Time spent on steps.
    history
        Validation scores so far.
    geco
        Of :class:`~napari_structseg.training.objectives.geco.Geco`; None without.
    margin
        The weights of a CRF that is learned; None without. The labellings of an epoch that has
        not ended are tensors.
    channels, classes
        Names from the data; None in a checkpoint that does not record them.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
    step: int = Field(ge=0)
    config_json: str
    seconds: float = 0.0
    history: list[ValidationScore] = Field(default_factory=list)
    geco: GecoState | None = None
    margin: MarginState | None = None
    channels: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training run at one step.

    Attributes
    ----------
    state
        What is known apart from tensors.
    network
        The network's state by name.
    optimiser
        The optimiser's state; names are ``PARAMETER_INDEX/KEY``.
    margin
        Labellings of the epoch, as bits ``(K, bytes)``; names are ``STEP/PLACE``.
    """

    state: CheckpointState
    network: dict[str, torch.Tensor]
    optimiser: dict[str, torch.Tensor]
    margin: dict[str, torch.Tensor]


def save_checkpoint(
    path: Path,
    state: CheckpointState,
    network: SegmentationNetwork,
    optimiser: torch.optim.Optimizer,
    found: Mapping[tuple[int, int], npt.NDArray[np.uint8]] | None = None,
) -> None:
    """Write a checkpoint atomically: a crash leaves the previous one intact.

    Parameters
    ----------
    path
        Destination, ``*.safetensors``.
    state
        What is known apart from tensors.
    network, optimiser
        Whose tensors to store.
    found
        Labellings of the epoch, of a CRF that is learned; None: none.

    Raises
    ------
    InputError
        If the system refuses to write there.
    """
    tensors = {f"network/{k}": v.detach().cpu() for k, v in network.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{k}": v.detach().cpu() for k, v in values.items()}
    for (step, place), packed in (found or {}).items():
        tensors[f"margin/{step}/{place}"] = torch.from_numpy(packed)
    write_tensors(path, tensors, {_METADATA_KEY: state.model_dump_json()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    WeightsError
        If there is none at ``path``, or it is damaged.
    """
    if not path.is_file():
        raise WeightsError(
            f"There is no checkpoint at {path} to resume from. Start without --resume, or name "
            "the folder of the run to continue."
        )
    parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimiser": {}, "margin": {}}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = CheckpointState.model_validate_json(metadata.get(_METADATA_KEY, ""))
            for name in file.keys():  # noqa: SIM118
                kind, _, key = name.partition("/")
                parts.get(kind, {})[key] = file.get_tensor(name)
    except (SafetensorError, OSError, ValidationError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} is not a readable checkpoint of a training run ({error}). Train again in a "
            "new folder."
        ) from error
    return Checkpoint(state, **parts)


def check_same_run(
    state: CheckpointState,
    config: TrainConfig,
    spec: ModelSpec,
    folder: Path,
    may_differ: Collection[str] = (),
) -> None:
    """Refuse to continue a run with another configuration, or for other channels or classes.

    Parameters
    ----------
    state
        Of the checkpoint.
    config, spec
        What is to be trained now.
    folder
        Of the run, for the message.
    may_differ
        Fields of the configuration that may.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    advice = "start in a new folder."
    try:
        theirs = TrainConfig.model_validate_json(state.config_json, context=AS_RECORDED)
    except ValidationError as error:
        raise ConfigError(
            f"The checkpoint in {folder} was made by a version of napari-structseg with another "
            f"kind of configuration. Resume with that version, or {advice}"
        ) from error
    changed = [
        name
        for name in TrainConfig.model_fields
        if getattr(theirs, name) != getattr(config, name) and name not in {"workers", *may_differ}
    ]
    if changed == ["steps"] and config.steps > theirs.steps:
        # A run may go on for longer; its learning rate then follows the longer schedule.
        changed = []
    if changed:
        # What a configuration leaves out had another default in earlier versions.
        lost = _is_unbounded(theirs) and not _is_unbounded(config)
        earlier = " Its head has no bound: say head.bound = 0." if lost else ""
        raise ConfigError(
            f"The checkpoint in {folder} was made with another configuration (different: "
            f"{', '.join(changed)}).{earlier} Resume with the original one, or {advice}"
        )
    if state.step > config.steps:
        raise ConfigError(
            f"The checkpoint in {folder} says that step {state.step} of {config.steps} was taken. "
            f"The file was altered; {advice}"
        )
    if config.loss.geco_target is not None and state.geco is None:
        raise ConfigError(
            f"The checkpoint in {folder} does not say how far GECO has come. Resume with the "
            f"version that wrote it, or {advice}"
        )
    for what, before, now in (
        ("channels", state.channels, spec.channels),
        ("classes", state.classes, spec.class_names),
    ):
        if before is not None and before != now:
            raise ConfigError(
                f"The checkpoint in {folder} was made for the {what} {', '.join(before)}, but the "
                f"data has {', '.join(now)}. Resume with the original data, or {advice}"
            )


def _is_unbounded(config: TrainConfig) -> bool:
    return isinstance(config.head, LowRankSpec) and not config.head.bound


def restore(
    checkpoint: Checkpoint, network: SegmentationNetwork, optimiser: torch.optim.Optimizer
) -> None:
    """Put a checkpoint's tensors into a network and an optimiser of the same configuration.

    Raises
    ------
    WeightsError
        If the tensors are not those of this network. Nothing was changed.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in checkpoint.network.items()}
    if found != expected:
        odd = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
        raise WeightsError(
            f"The checkpoint's tensors do not fit the network of this configuration and data "
            f"(for example {odd[0]!r}). Resume with the original data, or train in a new folder."
        )
    moments = _moments(checkpoint.optimiser, optimiser)
    network.load_state_dict(checkpoint.network)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def labellings_of(
    checkpoint: Checkpoint, config: TrainConfig
) -> dict[tuple[int, int], npt.NDArray[np.uint8]]:
    """The labellings of the epoch in which a checkpoint was written, patch by patch.

    Raises
    ------
    WeightsError
        If they are not those of patches of this configuration.
    """
    found = {}
    n_bytes = -(-math.prod(config.patch) // 8)
    for name, tensor in checkpoint.margin.items():
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", name)
        if match is None or tensor.dtype != torch.uint8 or tensor.shape[1:] != (n_bytes,):
            raise _foreign(f"it has labellings {name!r} of shape {tuple(tensor.shape)}")
        step, place = int(match[1]), int(match[2])
        if step >= checkpoint.state.step or place >= config.batch:
            raise _foreign(f"it has labellings {name!r}, which no step has found")
        found[step, place] = tensor.numpy()
    return dict(sorted(found.items()))


def _moments(
    tensors: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> dict[int, dict[str, torch.Tensor]]:
    """The optimiser's state by parameter, or WeightsError if it is not that of its parameters."""
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition("/")
        index = int(number) if re.fullmatch(r"[0-9]{1,9}", number) else len(parameters)
        fits = index < len(parameters) and key in _MOMENTS
        if not fits or tensor.shape != (() if key == "step" else parameters[index].shape):
            raise _foreign(f"its optimiser has {name!r} of shape {tuple(tensor.shape)}")
        state.setdefault(index, {})[key] = tensor
    for index, found in state.items():
        if set(found) != _MOMENTS:
            raise _foreign(f"its optimiser lacks {sorted(_MOMENTS - set(found))} of {index}")
    return state


def _foreign(problem: str) -> WeightsError:
    return WeightsError(
        f"The checkpoint is not one of this run: {problem}. The file was altered; train again in a "
        "new folder."
    )
