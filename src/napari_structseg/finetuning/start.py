"""Where a run starts: the network, what of it learns, and the configuration of its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from napari_structseg.errors import ConfigError
from napari_structseg.finetuning.made_for import dropped, still_made_for
from napari_structseg.finetuning.settings import FinetuneSettings, What
from napari_structseg.image import Image
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.models import (
    BackboneSpec,
    LowRankSpec,
    ModelSpec,
    SegmentationNetwork,
    build_network,
)
from napari_structseg.models.programs.network import ProgramNetwork
from napari_structseg.training.config import DEFAULT_BOUND, TrainConfig
from napari_structseg.training.sections import (
    AugmentationConfig,
    LossConfig,
    OptimiserConfig,
    PriorConfig,
)

_WARM_UP_SHARE = 20
# What a head reads that was put on a program without features.
_BESIDE_A_PROGRAM = BackboneSpec(widths=(16, 32, 64), convolutions=(2, 2, 2), norm="none")
_Section = TypeVar("_Section", bound=BaseModel)
# Where the model does not say how it was trained: what an ordinary scan varies in.
_MILD = AugmentationConfig(rotation=10, scaling=0.1, bias=0.2, gamma=0.1, noise=0.02)


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes
    ----------
    path, sha256
        File of the model, and its hash.
    network, spec
        On the CPU. With a new head, its factor and diagonal are new and its mean is the model's.
    """

    path: Path
    sha256: str
    network: SegmentationNetwork
    spec: ModelSpec


def load_start(settings: FinetuneSettings, copy: Path | None = None) -> Start:
    """Load the model of the settings.

    Parameters
    ----------
    settings
        Of the run.
    copy
        The model's file as the run has kept it; None: the run begins.

    Raises
    ------
    ConfigError
        If a stochastic head is asked for and the model is not deterministic.
    WeightsError
        If the file cannot be used.
    """
    path = find_model(settings.model) if copy is None else copy
    sha256 = weights_hash(path)
    network, spec = load_weights(path)
    rank = settings.stochastic_rank
    if spec.program is not None and not spec.program.head_is_own and not rank:
        raise ConfigError(
            f"The program of {spec.name!r} stays as it is: only a distribution around its logits "
            "can be learned. Ask for one with --stochastic-rank, for example 10."
        )
    if rank:
        network, spec = with_stochastic_head(network, spec, rank, settings.seed)
    return Start(path, sha256, network, _described(spec, settings, sha256))


def with_stochastic_head(
    network: SegmentationNetwork, spec: ModelSpec, rank: int, seed: int = 0
) -> tuple[SegmentationNetwork, ModelSpec]:
    """Put the head of a Stochastic Segmentation Network on a deterministic model.

    Its mean is the model's last layer, so that the mean of the distribution is what the model says;
    factor and diagonal are new, and small. A program stays frozen: they are made of its features,
    or of image and probabilities by a small U-Net.

    Raises
    ------
    ConfigError
        If the model is not deterministic.
    """
    if spec.kind != "point":
        raise ConfigError(
            f"A stochastic head is put on a deterministic model, but {spec.name!r} is a "
            f"{spec.head.title}. Leave the rank out: it has a distribution already."
        )
    head = LowRankSpec(rank=rank, bound=DEFAULT_BOUND, rectified=False)
    own: dict[str, object] = {"head": head, "calibration": None}
    if spec.program is not None:
        own["program"] = spec.program.model_copy(update={"head_is_own": True})
        own["backbone"] = _BESIDE_A_PROGRAM
    spec = spec.model_copy(update=own)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_network(spec)
    # What is new has no counterpart; everything else is as it was.
    fresh.load_state_dict({**fresh.state_dict(), **network.state_dict()})
    return fresh.eval(), spec


def learning_names(network: SegmentationNetwork, what: What) -> frozenset[str]:
    """Names of the parameters that learn.

    The head takes with it what gives the statistics of latents, since together they are what a
    sample is made of. An MRF is no part of any choice, and of a program all that is ours learns.
    """
    if what == "all" or isinstance(network, ProgramNetwork):
        names = {name for name, _ in network.named_parameters()}
    else:
        parts = list(_heads(network))
        if what == "last":
            parts += list(_last_levels(network.backbone))
        chosen = {id(parameter) for part in parts for parameter in part.parameters()}
        names = {name for name, one in network.named_parameters() if id(one) in chosen}
    return frozenset(name for name in names if not name.startswith("prior."))


def _heads(network: SegmentationNetwork) -> Iterator[nn.Module]:
    yield network.head
    for name, module in network.named_modules():
        if name.rpartition(".")[2] == "statistics":
            yield module


def _last_levels(backbone: nn.Module) -> Iterator[nn.Module]:
    """The finest level on the way up of each U-Net; where there is one level, that."""
    nets = backbone if isinstance(backbone, nn.ModuleList) else [backbone]
    for net in nets:
        up, reduce, down = (net.get_submodule(name) for name in ("up", "reduce", "down"))
        assert isinstance(up, nn.ModuleList)
        assert isinstance(reduce, nn.ModuleList)
        assert isinstance(down, nn.ModuleList)
        if len(up):
            yield up[-1]
            yield reduce[-1]
        else:
            yield down[-1]


def serving(start: Start, corrected: Sequence[Image]) -> Start:
    """The start with what it still says of the images that it serves, see `made_for`."""
    domain = still_made_for(start.spec, corrected)
    return replace(start, spec=start.spec.model_copy(update={"domain": domain}))


def training_config(settings: FinetuneSettings, spec: ModelSpec) -> TrainConfig:
    """How a run trains: as the model was trained, where that is known, with a lower rate.

    Raises
    ------
    ConfigError
        If settings and model do not fit.
    """
    recipe = spec.training.recipe
    loss = _section(LossConfig, recipe.get("loss"))
    changed: dict[str, Any] = {
        "mean_only_steps": 0,
        "zero_is_background": spec.zero_is_background,
    }
    if settings.samples is not None:
        changed["samples"] = settings.samples + settings.samples % 2 * loss.antithetic
    fields = {
        "name": spec.name,
        "dimensions": spec.dimensions,
        "patch": settings.patch or spec.patch,
        "spacing": spec.spacing,
        "intensity": spec.intensity,
        "backbone": spec.backbone,
        "head": spec.head,
        "prior": _joint_prior(spec),
        "loss": loss.model_copy(update=changed),
        "optimiser": OptimiserConfig(
            learning_rate=settings.learning_rate,
            weight_decay=0,
            warmup_steps=settings.steps // _WARM_UP_SHARE,
        ),
        "augmentation": _augmentation(settings, recipe),
        "batch": settings.batch,
        "steps": settings.steps,
        "seed": settings.seed,
        "validate_every": settings.validate_every,
        "checkpoint_every": settings.weights_every,
    }
    try:
        return TrainConfig.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(p["msg"].removeprefix("Value error, ") for p in error.errors())
        raise ConfigError(
            f"The model {spec.name!r} cannot be fine-tuned with these settings: {problems}."
        ) from error


def _joint_prior(spec: ModelSpec) -> PriorConfig | None:
    """With the MRF in the loss where it was trained together with the model, as a part of it."""
    recorded = _recorded(PriorConfig, spec.training.recipe.get("prior"))
    if spec.prior is None or recorded is None or recorded.freeze_model:
        return None
    return recorded.model_copy(update={"mrf": spec.prior})


def _augmentation(settings: FinetuneSettings, recipe: Mapping[str, Any]) -> AugmentationConfig:
    if not settings.augment:
        return AugmentationConfig()
    recorded = _recorded(AugmentationConfig, recipe.get("augmentation"))
    if recorded is None or recorded == AugmentationConfig():
        recorded = _MILD
    # A part that was not reviewed is not known to be background.
    return recorded.model_copy(update={"without": 0.0})


def _section(kind: type[_Section], table: object) -> _Section:
    return _recorded(kind, table) or kind()


def _recorded(kind: type[_Section], table: object) -> _Section | None:
    """A section of the recorded configuration; None where there is none of this version."""
    try:
        return None if table is None else kind.model_validate(table)
    except ValidationError:
        return None


def _described(spec: ModelSpec, settings: FinetuneSettings, sha256: str) -> ModelSpec:
    """With the record of this run. What was fitted to other weights no longer holds."""
    said = spec.training.data
    tuned = "fine-tuned on corrections of the user"
    record = spec.training.model_copy(
        update={
            # The recipe stays that of the training: the next run takes its loss from it.
            "recipe": {
                **spec.training.recipe,
                "finetuned": {**_portable(settings), "dropped": list(dropped(spec))},
            },
            "data": f"{said}; {tuned}" if said and tuned not in said else said or tuned,
            "initial": sha256,
            "software": f"napari-structseg {version('napari-structseg')}",
        }
    )
    return spec.model_copy(update={"training": record, "calibration": None})


def _portable(settings: FinetuneSettings) -> dict[str, Any]:
    """What of the settings a file may tell that is given to others: no paths."""
    fields = settings.model_dump(
        mode="json", exclude={"cases", "sessions", "model", "replay", "device", "threads"}
    )
    return {**fields, "n_cases": len(settings.cases) + len(settings.sessions)}
