"""Sites that the second iteration is not asked about, against what it would do to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.priors import MarkovPrior, NetworkPrior, refine
from napari_structseg.refine.iterations.active_set import ActiveSet
from napari_structseg.refine.iterations.neighbourhood import Neighbourhood
from test_trajectory import head, make_logits, make_prior

STILL = 3e-7


def after(prior: MarkovPrior, logits: Tensor, n: int) -> Tensor:
    return refine(prior, torch.log_softmax(logits, dim=0)[None], n)[0]


def rest_of(prior: MarkovPrior, logits: Tensor) -> np.ndarray:
    """Sites at rest of every slab."""
    halo = prior.dimensions - 2
    volume = after(prior, logits, 1).reshape(len(logits), -1, *logits.shape[-2:])
    field = functional.pad(volume.movedim(0, -1), (0, 0, 1, 1, 1, 1, halo, halo))
    around = Neighbourhood(prior, tuple(logits.shape[-2:]), 0)
    rest = ActiveSet(around, field, 1.0, STILL)
    slabs = [rest.of(slab) for slab in range(volume.shape[1])]
    return np.stack(slabs).reshape(logits.shape[1:])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_sites_at_rest_stay_and_there_are_many(dimensions: int) -> None:
    prior = make_prior(NetworkPrior, dimensions)
    logits = head() if dimensions == 3 else head()[:, 12]
    moved = (after(prior, logits, 2) - after(prior, logits, 1)).abs().amax(dim=0).numpy()
    resting = rest_of(prior, logits)
    assert moved[resting].max() < STILL
    # All but the ball, the sites beside it and the border.
    assert resting.mean() > 0.4
    assert moved[~resting].max() > 0.01


def test_nothing_is_at_rest_around_a_corner_that_moves() -> None:
    prior = make_prior(NetworkPrior, 3)
    logits = head()
    logits[0] = torch.where(logits[0] == 20, 2.0, logits[0])
    assert not rest_of(prior, logits).any()


def test_a_difference_that_the_message_makes_large_is_no_rest() -> None:
    prior = make_prior(NetworkPrior, 3)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.zero_()
        # Among background, the next class gains e^3 on what the undecided say.
        prior.neighbours.weight[0, 0] = prior.around / 26 * 4
        prior.combine.weight[1, 0] = 1
    logits = head()
    # Certain alike to single precision, but not after a step.
    logits[0, :, :, 12:] = torch.where(logits[0] == 20, 16.8, logits[0])[:, :, 12:]
    before, then = after(prior, logits, 1), after(prior, logits, 2)
    assert (before[:, 2, 2, 20] - before[:, 2, 2, 2]).abs().max() < STILL
    moved = (then - before).abs().amax(dim=0).numpy()
    resting = rest_of(prior, logits)
    assert moved[2, 2, 20] > STILL
    assert resting[2, 2, 2]
    assert moved[resting].max() < STILL


def test_noise_has_nothing_at_rest() -> None:
    assert not rest_of(make_prior(NetworkPrior, 3), make_logits((6, 8, 8))).any()
    assert not rest_of(make_prior(NetworkPrior, 3), make_logits((2, 2, 2))).any()
