"""A prior that is trained to smooth: on samples, and with a cost of voxels that stand alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from napari_structseg.models import HeadSpec, LogitParameters, build_network
from napari_structseg.priors import refine
from napari_structseg.training.objectives.losses import prior_cross_entropy, sample_logits
from napari_structseg.training.objectives.objective import Objective, drawn_iterations
from napari_structseg.training.objectives.speckle import expected_speckle
from test_training import make_config
from test_training_prior import prior_config, random_parameters, random_prior, spec_of


def one_hot(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, n_classes).movedim(-1, 1).double()


def single_voxels(labels: np.ndarray, n_classes: int) -> int:
    count = 0
    for label in range(n_classes):
        components, _ = ndimage.label(labels == label)
        count += int((np.bincount(components.ravel())[1:] == 1).sum())
    return count


@pytest.mark.parametrize("shape", [(9, 11), (6, 5, 7)])
def test_of_certain_labels_it_counts_single_voxels(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (2, *shape))
    expected = sum(single_voxels(one, 3) for one in labels) / 2
    assert expected > 3
    found = expected_speckle(one_hot(torch.from_numpy(labels), 3))
    assert float(found) == pytest.approx(expected)


def test_of_uncertain_labels_it_is_the_expectation() -> None:
    generator = torch.Generator().manual_seed(0)
    chances = torch.rand((1, 3, 5, 6), generator=generator, dtype=torch.float64).softmax(dim=1)
    flat = chances[0].flatten(1).T
    drawn = torch.multinomial(flat, 4000, replacement=True, generator=generator).T
    counts = [single_voxels(one.reshape(5, 6).numpy(), 3) for one in drawn]
    error = np.std(counts) / np.sqrt(len(counts))
    assert float(expected_speckle(chances)) == pytest.approx(np.mean(counts), abs=4 * error)


def test_speckle_is_added_to_the_cross_entropy() -> None:
    parameters, prior = random_parameters(2, 3, 6, 6), random_prior()
    target = torch.ones((2, 6, 6), dtype=torch.uint8)
    plain = prior_cross_entropy(prior, parameters, target, 4)
    refined = refine(prior, torch.log_softmax(parameters.mean, dim=1), 4)
    torch.testing.assert_close(
        prior_cross_entropy(prior, parameters, target, 4, speckle=2.5),
        plain + 2.5 * expected_speckle(refined),
    )


@pytest.mark.parametrize("of_samples", [False, True])
def test_samples_are_refined_in_place_of_the_mean(of_samples: bool) -> None:
    head = HeadSpec(kind="low_rank", rank=2)
    config = prior_config(head=head, prior={"freeze_model": True, "of_samples": of_samples})
    network = build_network(spec_of(config))
    images = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 0.5).to(torch.uint8)
    objective = Objective(config)
    with torch.no_grad():
        parameters = network(images)
        losses = []
        for step in (0, 1):
            refined = parameters.mean
            if of_samples:
                refined = sample_logits(parameters, 1, generator=objective.generator(labels, step))[
                    0
                ]
            n_iterations = drawn_iterations(config.prior, config.seed, step)
            expected = prior_cross_entropy(
                network.prior, LogitParameters(refined), labels, n_iterations
            )
            torch.testing.assert_close(objective(network, images, labels, step), expected)
            losses.append(refined)
    assert torch.equal(*losses) is not of_samples


def test_a_cost_of_speckle_leaves_less_of_it() -> None:
    generator = torch.Generator().manual_seed(3)
    target = torch.zeros((1, 24, 24), dtype=torch.uint8)
    target[:, 8:16] = 1
    # Single voxels that are true, so that cross-entropy alone keeps them.
    target[torch.rand(target.shape, generator=generator) < 0.05] ^= 1
    logits = 2 * one_hot(target.long(), 2) + torch.randn((1, 2, 24, 24), generator=generator)
    left = []
    for speckle in (0.0, 20.0):
        prior = random_prior(n_classes=2)
        optimiser = torch.optim.Adam(prior.parameters(), lr=0.05)
        for _ in range(40):
            optimiser.zero_grad()
            loss = prior_cross_entropy(prior, LogitParameters(logits), target, 5, speckle=speckle)
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            refined = refine(prior, torch.log_softmax(logits, dim=1), 5)
        left.append(float(expected_speckle(refined)))
    assert left[1] < 0.7 * left[0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prior": {"of_samples": True}}, "of_samples needs freeze_model = true"),
        (
            {"prior": {"of_samples": True, "freeze_model": True}},
            "prior.of_samples draws from a distribution over logits, but head.kind is 'point'",
        ),
    ],
)
def test_what_has_no_samples_is_refused(fields: dict, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        make_config(head=HeadSpec(kind="point"), **fields)
