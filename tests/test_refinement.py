"""Mean field on a distribution: what it starts from, and the probabilities that it ends with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.controls import Controls, NeighbourSettings, Nudge, Settings
from napari_structseg.distributions import (
    Combination,
    LatentDecoder,
    LatentNormal,
    LogitDistribution,
    LowRankNormal,
    PointLogits,
)
from napari_structseg.errors import Cancelled
from napari_structseg.priors import NetworkPrior, nudged, refine
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.refine.refinement import Refinement
from test_trajectory import make_prior

N_CLASSES = 4
SHAPE = (5, 4, 6)


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def low_rank(shape: tuple[int, ...] = SHAPE) -> LowRankNormal:
    return LowRankNormal(
        draw(N_CLASSES, *shape), draw(2, N_CLASSES, *shape, seed=1), torch.ones(N_CLASSES, *shape)
    )


def latent_decoder() -> LatentDecoder:
    combination = Combination(draw(5, 2), draw(5, 5), draw(5), draw(N_CLASSES, 5), draw(N_CLASSES))
    return LatentDecoder(draw(5, *SHAPE), combination, LatentNormal(draw(2), torch.ones(2)))


def expected(distribution: LogitDistribution, controls: Controls) -> Tensor:
    """Probabilities by the definition, on the whole image at once."""
    logits = distribution.mean()
    if controls.noise is not None:
        weights = torch.tensor(controls.weights_of(distribution))
        offset = distribution.offset(controls.tempered(controls.noise, distribution))
        logits = logits + weights.reshape(-1, *[1] * (logits.ndim - 1)) * offset
    pairs = [(one.first, one.second, one.amount) for one in controls.nudges]
    return refine(
        nudged(make_prior(NetworkPrior, logits.ndim - 1), pairs),
        torch.log_softmax(logits, dim=0)[None],
        controls.iterations if controls.refines else 0,
        strength=controls.mrf_strength,
        damping=controls.damping,
        update=controls.update_rule,
    )[0]


def test_a_latent_position_is_what_the_mrf_refines() -> None:
    distribution = latent_decoder()
    refinement = Refinement(distribution, make_prior(NetworkPrior, 3))
    for position in ((2.0, -1.0), (-2.0, 3.0), ()):
        controls = Controls(latent=position, iterations=2)
        labels = refinement.render_volume(controls)
        assert np.array_equal(labels, expected(distribution, controls).argmax(dim=0).numpy())


# Where one of these is moved, the logits stay; with any other field they may not.
def test_only_settings_of_the_mrf_leave_the_logits_alone() -> None:
    assert set(NeighbourSettings.model_fields) == {
        "coupling",
        "crf",
        "iterations",
        "mrf_strength",
        "damping",
        "update_rule",
        "nudges",
    }
    moved = Controls(
        seed=3,
        sample=2,
        temperature=0.5,
        class_scale=(1, 2),
        latent=(0.5,),
        iterations=3,
        mrf_strength=2,
        damping=0.5,
        update="coloured",
        nudges=(Nudge(first=0, second=1, amount=1),),
        coupling="crf",
        crf=CRFSpec(smooth=2),
    )
    unmoved = {
        name for name in Controls.model_fields if getattr(moved, name) == getattr(Controls(), name)
    }
    assert not unmoved, f"move these here, too: {unmoved}"
    left = moved.unrefined
    for name in Controls.model_fields:
        source = Controls() if name in NeighbourSettings.model_fields else moved
        assert getattr(left, name) == getattr(source, name), name


def test_recipes_name_the_sampling_first() -> None:
    assert list(Settings.model_fields)[:4] == ["seed", "temperature", "class_scale", "iterations"]


STATES = [
    Controls(iterations=3),
    Controls(iterations=2, sample=1, temperature=1.5),
    Controls(iterations=4, damping=0.6, mrf_strength=0.5),
    Controls(iterations=3, update="coloured"),
    Controls(iterations=2, nudges=(Nudge(first=1, second=2, amount=2),)),
    Controls(iterations=0, sample=2),
    Controls(iterations=5, mrf_strength=0, damping=0.3),
]


@pytest.mark.parametrize("shape", [SHAPE, (6, 7)])
def test_probabilities_are_those_of_the_definition_after_any_move(shape: tuple[int, ...]) -> None:
    distribution = low_rank(shape)
    refinement = Refinement(distribution, make_prior(NetworkPrior, len(shape)))
    part = (slice(1, 4), slice(0, 2), slice(2, 6))[: len(shape)]
    for controls in STATES:
        wanted = expected(distribution, controls).numpy()
        given = refinement.probabilities(controls)
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, wanted, atol=1e-5)
        np.testing.assert_allclose(given.sum(axis=0), 1, atol=1e-5)
        region = refinement.probabilities(controls, part)
        np.testing.assert_allclose(region, wanted[:, *part], atol=1e-5)
        # The engine goes on to iterations that were not asked for; then only labels are kept.
        refinement.render_volume(controls.model_copy(update={"iterations": 9}))
        np.testing.assert_allclose(refinement.probabilities(controls), wanted, atol=1e-5)


def test_probabilities_are_those_of_the_labels_whatever_axis_was_looked_along() -> None:
    refinement = Refinement(low_rank(), make_prior(NetworkPrior, 3))
    controls = Controls(iterations=3)
    trajectory = refinement.trajectory(controls, axis=2)
    while trajectory.advance(1, 3) is not None:
        pass
    probabilities = refinement.probabilities(controls)
    assert refinement.trajectory(controls) is trajectory
    assert np.array_equal(probabilities.argmax(axis=0), refinement.render_volume(controls))


def test_probabilities_can_be_cancelled_and_taken_up_again() -> None:
    distribution = PointLogits(draw(N_CLASSES, *SHAPE))
    refinement = Refinement(distribution, make_prior(NetworkPrior, 3))
    controls = Controls(iterations=3)
    with pytest.raises(Cancelled):
        refinement.probabilities(controls, cancelled=lambda: True)
    wanted = expected(distribution, controls).numpy()
    np.testing.assert_allclose(refinement.probabilities(controls), wanted, atol=1e-5)


def test_a_refinement_may_be_used_inside_and_outside_of_inference_mode() -> None:
    distribution = low_rank()
    refinement = Refinement(distribution, make_prior(NetworkPrior, 3))
    with torch.inference_mode():
        refinement.render_volume(Controls(iterations=2))
    labels = refinement.render_volume(Controls(iterations=5, update="coloured"))
    again = refinement.render_volume(Controls(iterations=5))
    assert np.array_equal(again, expected(distribution, Controls(iterations=5)).argmax(dim=0))
    assert labels.shape == SHAPE
