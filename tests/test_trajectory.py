"""Mean field slab by slab against the definition, and what a slider does with it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.priors import (
    EnergyPrior,
    MarkovPrior,
    NetworkPrior,
    contraction_bound,
    free_energy,
    nudged,
    refine,
    uniform,
)
from napari_structseg.refine.iterations.trajectory import MeanField, Trajectory

N_CLASSES = 4
SHAPES = [(7, 6), (4, 6, 5), (1, 5, 4), (2, 3, 3)]


def make_prior(kind: type[MarkovPrior], dimensions: int, scale: float = 0.3) -> MarkovPrior:
    prior = kind(dimensions, N_CLASSES)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return prior.requires_grad_(False)


def make_logits(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((N_CLASSES, *shape), generator=generator)


def slabs_of(logits: Tensor, axis: int):
    if logits.ndim == 3:
        return lambda _slab: logits
    return lambda slab: logits.select(1 + axis, slab)


def make_trajectory(
    prior: MarkovPrior, logits: Tensor, settings: MeanField, axis: int = 0
) -> Trajectory:
    shape = tuple(logits.shape[1:])
    along = 0 if settings.update == "coloured" else axis
    return Trajectory(prior, shape, slabs_of(logits, along), settings, axis)


def run(trajectory: Trajectory, target: int, toward: int = 0) -> None:
    while trajectory.advance(toward, target) is not None:
        pass


def whole(trajectory: Trajectory) -> Tensor:
    slabs = [trajectory.responsibilities(slab) for slab in range(trajectory.n_slabs)]
    if len(trajectory.shape) == 2:
        return slabs[0]
    return torch.stack(slabs, dim=1 + trajectory.axis)


def expected(prior: MarkovPrior, logits: Tensor, n: int, settings: MeanField) -> Tensor:
    unary = torch.log_softmax(logits, dim=0)[None]
    bound = contraction_bound(prior.kernel()) if prior.has_energy else 1.0
    return refine(
        prior,
        unary,
        n,
        strength=settings.strength,
        damping=settings.damping,
        update=settings.update,
        tau=settings.strength * bound,
    )[0]


@pytest.mark.parametrize("kind", [NetworkPrior, EnergyPrior])
@pytest.mark.parametrize("update", ["parallel", "proximal", "coloured"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_slab_by_slab_is_the_definition(
    kind: type[MarkovPrior], update: str, shape: tuple[int, ...], n: int
) -> None:
    prior = make_prior(kind, len(shape))
    logits = make_logits(shape)
    damping = 1.0 if update == "proximal" else 0.8
    settings = MeanField(strength=0.7, damping=damping, update=update)
    for axis in range(len(shape) if len(shape) == 3 else 1):
        trajectory = make_trajectory(prior, logits, settings, axis)
        run(trajectory, n, toward=min(1, trajectory.n_slabs - 1))
        torch.testing.assert_close(
            whole(trajectory), expected(prior, logits, n, settings), atol=1e-5, rtol=0
        )


def head(size: int = 24) -> Tensor:
    """Logits that are certain of background around a noisy ball."""
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, size)] * 3, indexing="ij"))
    inside = grid.norm(dim=0) < 0.5
    logits = make_logits((size,) * 3)
    certain = torch.zeros(N_CLASSES)
    certain[0] = 20
    return torch.where(inside, logits, certain[:, None, None, None])


@pytest.mark.parametrize("update", ["parallel", "coloured"])
def test_what_is_skipped_would_not_have_moved(update: str) -> None:
    prior = make_prior(NetworkPrior, 3)
    logits = head()
    settings = MeanField(update=update)
    trajectory = make_trajectory(prior, logits, settings)
    run(trajectory, 20, toward=12)
    torch.testing.assert_close(
        whole(trajectory), expected(prior, logits, 20, settings), atol=1e-5, rtol=0
    )


def test_the_visible_slab_comes_first_and_takes_along_only_what_it_needs() -> None:
    trajectory = make_trajectory(make_prior(NetworkPrior, 3), make_logits((9, 4, 4)), MeanField())
    order = []
    while trajectory.reached(4) < 3:
        order.append(trajectory.advance(4, 3))
    # One for its first iteration, three for the second, five for the third.
    assert len(order) == 9
    assert sorted(order) == [2, 3, 3, 4, 4, 4, 5, 5, 6]
    assert order[0] == 4
    # The user looks elsewhere in between.
    while trajectory.reached(8) < 3:
        trajectory.advance(8, 3)
    run(trajectory, 3)
    assert trajectory.n_complete == 3


def test_every_iteration_can_be_gone_back_to() -> None:
    prior = make_prior(NetworkPrior, 3, scale=1.0)
    logits = make_logits((5, 6, 4))
    trajectory = make_trajectory(prior, logits, MeanField(), axis=1)
    run(trajectory, 8)
    for n in [8, 0, 3, 7, 2, 2, 1, 5]:
        for slab in range(trajectory.n_slabs):
            trajectory.labels(slab, n)
        wanted = expected(prior, logits, n, MeanField()).argmax(dim=0)
        assert np.array_equal(trajectory.volume(), wanted.numpy())


def test_curves_are_those_of_the_definition() -> None:
    prior = make_prior(EnergyPrior, 3)
    logits = make_logits((4, 5, 6))
    unary = torch.log_softmax(logits, dim=0)[None]
    for update, start in (("parallel", 0), ("coloured", 0)):
        settings = MeanField(strength=1.3, update=update)
        trajectory = make_trajectory(prior, logits, settings)
        run(trajectory, 6)
        curves = trajectory.convergence()
        fields = [expected(prior, logits, n, settings)[None] for n in range(start, 7)]
        fields[0] = uniform(unary)
        residual = [float((b - a).abs().max()) for a, b in itertools.pairwise(fields)]
        np.testing.assert_allclose(curves.residual, residual, atol=1e-5)
        labels = [field.argmax(dim=1) for field in (unary.exp(), *fields[1:])]
        changed = [float((a != b).float().mean()) for a, b in itertools.pairwise(labels)]
        np.testing.assert_allclose(curves.changed, changed)
        energies = [float(free_energy(unary, one, prior.message(one), 1.3)) for one in fields[1:]]
        known = curves.free_energy
        assert np.isfinite(known[:-1]).all()
        if update == "coloured":
            assert (np.diff(known) <= 1e-3).all()
        else:
            assert np.isnan(known[-1])
            known, energies = known[:-1], energies[:-1]
        np.testing.assert_allclose(known, energies, rtol=1e-4)
    assert (
        make_trajectory(make_prior(NetworkPrior, 3), logits, settings).convergence().n_iterations
        == 0
    )


def test_restarts_are_like_new_ones() -> None:
    prior = make_prior(NetworkPrior, 3)
    logits = make_logits((5, 4, 6))
    trajectory = make_trajectory(prior, logits, MeanField(strength=2))
    run(trajectory, 4)
    for settings in (MeanField(strength=0.5, damping=0.6), MeanField(update="coloured")):
        for changed in (prior, nudged(prior, [(1, 2, -2.0)])):
            trajectory.restart(changed, settings)
            assert trajectory.n_complete == 0
            run(trajectory, 3)
            torch.testing.assert_close(
                whole(trajectory), expected(changed, logits, 3, settings), atol=1e-5, rtol=0
            )
    logits.copy_(make_logits((5, 4, 6), seed=1))
    trajectory.forget_unaries()
    run(trajectory, 3)
    torch.testing.assert_close(
        whole(trajectory), expected(changed, logits, 3, settings), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("kind", [NetworkPrior, EnergyPrior])
def test_nudges_repel_and_attract(kind: type[MarkovPrior]) -> None:
    prior = make_prior(kind, 2, scale=0.05)
    logits = 0.5 * make_logits((20, 20))

    def contacts(one: MarkovPrior) -> int:
        labels = expected(one, logits, 10, MeanField()).argmax(dim=0)
        pairs = torch.stack([labels[:, :-1], labels[:, 1:]]).flatten(1)
        return int(((pairs.min(dim=0).values == 1) & (pairs.max(dim=0).values == 2)).sum())

    apart, together = nudged(prior, [(1, 2, -4.0)]), nudged(prior, [(2, 1, 4.0)])
    assert contacts(apart) < contacts(prior) < contacts(together)
    assert apart.has_energy == prior.has_energy
    assert nudged(prior, [(1, 2, 0.0)]) is prior
    with pytest.raises(ValueError, match="no labels"):
        nudged(prior, [(1, 4, 1.0)])
    if kind is EnergyPrior:
        kernel = apart.kernel()
        torch.testing.assert_close(kernel, kernel.transpose(0, 1).flip(2, 3))


def test_a_prior_for_other_dimensions_is_refused() -> None:
    with pytest.raises(ConfigError, match="2-D images"):
        make_trajectory(make_prior(NetworkPrior, 2), make_logits((4, 4, 4)), MeanField())


def test_numbers_that_are_none_are_refused_and_the_last_result_stays() -> None:
    logits = make_logits((4, 4, 4))
    logits[1, 2, 2, 2] = float("nan")
    with pytest.raises(InputError, match="not all finite"):
        run(make_trajectory(make_prior(NetworkPrior, 3), logits, MeanField()), 1)
    trajectory = make_trajectory(make_prior(NetworkPrior, 3), make_logits((4, 4, 4)), MeanField())
    run(trajectory, 2)
    before = trajectory.labels(1, 2).copy()
    broken = make_prior(NetworkPrior, 3)
    broken.combine.bias[0] = float("inf")
    trajectory.restart(broken, MeanField())
    with pytest.raises(InputError, match="Lower the strength"):
        run(trajectory, 2)
    trajectory.restart(make_prior(NetworkPrior, 3), MeanField())
    run(trajectory, 2)
    assert np.array_equal(trajectory.labels(1, 2), before)
