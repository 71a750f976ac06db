"""Voxels that nobody reviewed carry no loss and no score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.data.cases import UNREVIEWED, PreparedCase, ReadCase
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec, LogitParameters, build_network
from napari_structseg.priors import PriorSpec
from napari_structseg.training.config import LossConfig, TrainConfig
from napari_structseg.training.input.patches import ImagePatches
from napari_structseg.training.objectives.losses import prior_cross_entropy
from napari_structseg.training.objectives.objective import Objective
from napari_structseg.training.sections import PriorConfig
from napari_structseg.training.validation import validate_on_cases
from tiny_models import tiny_model

HEADS = {
    "low_rank": HeadSpec(rank=2),
    "point": HeadSpec(kind="point"),
    "latent": HeadSpec(kind="latent", latent_size=2),
    "hierarchical": HeadSpec(kind="hierarchical", latent_scales=1, members=2),
    "image2image_vae": HeadSpec(kind="image2image_vae", latent_size=2, members=2),
    "heads": HeadSpec(kind="heads", members=2),
    "ensemble": HeadSpec(kind="ensemble", members=2),
    "dropout": HeadSpec(kind="dropout", members=2),
}
CASES = [
    *(pytest.param(head, {}, None, id=name) for name, head in HEADS.items()),
    pytest.param(HEADS["latent"], {"geco_target": 0.05}, None, id="geco"),
    pytest.param(HEADS["latent"], {"top_k_fraction": 0.5}, None, id="top-k"),
    pytest.param(HEADS["low_rank"], {"mean_weight": 0.5}, None, id="mean weight"),
    pytest.param(HEADS["point"], {}, PriorConfig(min_iterations=2, max_iterations=2), id="MRF"),
    pytest.param(
        HEADS["low_rank"],
        {},
        PriorConfig(min_iterations=2, max_iterations=2, speckle=0.3),
        id="MRF of an SSN, speckle",
    ),
]


def config_of(head: HeadSpec, loss: dict, prior: PriorConfig | None) -> TrainConfig:
    return TrainConfig(
        name="tiny",
        dimensions=2,
        patch=(16, 16),
        head=head,
        prior=prior,
        loss=LossConfig(samples=4, **loss),
        backbone={"widths": (4, 8), "convolutions": (1, 1)},
    )


def outputs_of(network: torch.nn.Module) -> list[torch.Tensor]:
    """The output of every last layer, as it runs, with its gradient kept."""
    kept: list[torch.Tensor] = []

    def keep(_module, _inputs, output) -> None:
        if output.requires_grad:
            output.retain_grad()
            kept.append(output)

    for name, module in network.head.named_modules():
        if not any(module.children()) and name.rpartition(".")[2] != "latent":
            module.register_forward_hook(keep)
    return kept


@pytest.mark.parametrize(("head", "loss", "prior"), CASES)
def test_unreviewed_voxels_have_a_gradient_of_exactly_zero(head, loss, prior, tmp_path) -> None:
    spec = load_weights(
        tiny_model(
            tmp_path / "tiny.safetensors",
            dimensions=2,
            head=head,
            prior=None if prior is None else PriorSpec(),
        )
    )[1]
    torch.manual_seed(0)
    network = build_network(spec)
    kept = outputs_of(network)
    images = torch.randn(2, 1, 16, 16)
    labels = torch.randint(0, 4, (2, 16, 16), dtype=torch.uint8)
    reviewed = torch.rand(2, 16, 16) < 0.3
    labels[~reviewed] = UNREVIEWED
    value = Objective(config_of(head, loss, prior))(network, images, labels, 0)
    assert torch.isfinite(value)
    value.backward()
    assert kept
    for output in kept:
        gradient = output.grad.abs().sum(dim=1)
        assert not gradient[~reviewed].any()
        assert gradient[reviewed].any()
    assert all(
        torch.isfinite(one.grad).all() for one in network.parameters() if one.grad is not None
    )


def test_whole_patches_have_the_loss_that_they_had(tmp_path: Path) -> None:
    network = build_network(load_weights(tiny_model(tmp_path / "a.safetensors", dimensions=2))[1])
    images, labels = torch.randn(1, 1, 16, 16), torch.randint(0, 4, (1, 16, 16)).byte()
    objective = Objective(config_of(HeadSpec(rank=3), {}, None))
    whole = objective(network, images, labels, 0)
    half = labels.clone()
    half[:, 8:] = UNREVIEWED
    assert objective(network, images, half, 0) < whole
    assert torch.equal(objective(network, images, labels, 0), whole)


def test_neighbours_that_were_not_reviewed_are_what_the_model_says(tmp_path: Path) -> None:
    """An MRF sees them, but not as background."""
    prior = build_network(
        load_weights(tiny_model(tmp_path / "a.safetensors", dimensions=2, prior=PriorSpec()))[1]
    ).prior
    with torch.no_grad():
        for one in prior.parameters():
            one.normal_()
    logits = torch.randn(1, 4, 6, 6)
    labels = torch.randint(0, 4, (1, 6, 6))
    reviewed = torch.zeros(1, 6, 6, dtype=torch.bool)
    reviewed[0, 3, 3] = True

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return prior_cross_entropy(prior, LogitParameters(logits), labels, 3, reviewed=reviewed)

    other = logits.clone()
    other[0, :, 3, 4] += torch.tensor([5.0, 0, 0, -5])
    assert loss(other) != loss(logits)


def test_patches_lie_where_voxels_were_reviewed() -> None:
    labels = np.full((40, 40), UNREVIEWED, np.uint8)
    labels[30:33, 5:8] = 0
    image = np.random.default_rng(0).random((1, 40, 40)).astype(np.float32)
    case = PreparedCase("case", image, (labels,), (1.0, 1.0))
    for fields in ({"augmentation": {"rotation": 20}}, {"foreground": 0}):
        config = TrainConfig(name="t", dimensions=2, patch=(8, 8), **fields)
        source = ImagePatches([case], config)
        for seed in range(20):
            _, found = source.patch(np.random.default_rng(seed))
            assert (found == 0).any()
            assert set(np.unique(found)) <= {0, UNREVIEWED}


def test_beyond_the_edge_of_a_reviewed_part_nothing_was_reviewed() -> None:
    labels = np.zeros((5, 5), np.uint8)
    labels[0, 0] = UNREVIEWED
    case = PreparedCase("case", np.zeros((1, 5, 5), np.float32), (labels,), (1.0, 1.0))
    for augmentation in ({}, {"rotation": 1e-6}):
        config = TrainConfig(name="t", dimensions=2, patch=(8, 8), augmentation=augmentation)
        _, found = ImagePatches([case], config).patch(np.random.default_rng(0))
        assert (found == UNREVIEWED).sum() >= 64 - 24


def test_scores_are_of_reviewed_voxels(tmp_path: Path) -> None:
    network, spec = load_weights(tiny_model(tmp_path / "a.safetensors", dimensions=2))
    image = Image.from_array(np.random.default_rng(0).random((24, 24)).astype(np.float32))

    def score(raters: np.ndarray, n_samples: int = 0):
        case = ReadCase("case", "", image, raters)
        return validate_on_cases([case], spec)(network, n_samples)

    labels = np.random.default_rng(1).integers(0, 4, (1, 24, 24)).astype(np.uint8)
    half = labels.copy()
    half[:, 12:] = UNREVIEWED
    assert score(half).dice != score(labels).dice
    two = np.concatenate([half, labels])
    both_half = np.concatenate([half, half])
    assert score(two, 2).ged is not None
    assert score(both_half, 2).ged == pytest.approx(score(half, 2).ged)
