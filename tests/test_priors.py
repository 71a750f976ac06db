"""Markov priors and mean field against enumeration, dense matrices and finite differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_structseg.priors import (
    MAX_FILTERS,
    EnergyPrior,
    MarkovPrior,
    NetworkPrior,
    PriorSpec,
    coloured_step,
    colours,
    contraction_bound,
    free_energy,
    parallel_step,
    proximal_step,
    refine,
    uniform,
)
from napari_structseg.training.config import PriorConfig

KINDS = (NetworkPrior, EnergyPrior)


def random_prior(
    kind: type[MarkovPrior], dimensions: int, n_classes: int, seed: int = 0, scale: float = 1.0
) -> MarkovPrior:
    prior = kind(dimensions, n_classes).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(
                scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
    return prior


def random_unary(n_classes: int, shape: tuple[int, ...], seed: int = 1, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((batch, n_classes, *shape), generator=generator, dtype=torch.float64)
    return torch.log_softmax(logits, dim=1)


def potts(dimensions: int, n_classes: int, strength: float) -> EnergyPrior:
    """Attraction between like neighbours; negative: repulsion."""
    prior = EnergyPrior(dimensions, n_classes).double()
    with torch.no_grad():
        prior.couplings.zero_()
        prior.couplings[range(n_classes), range(n_classes)] = strength
    return prior


def dense_couplings(prior: EnergyPrior, shape: tuple[int, ...]) -> Tensor:
    """W as a matrix between (class, site) pairs, ``(K S, K S)``, written out pair by pair."""
    n_classes, sites = prior.n_classes, list(np.ndindex(*shape))
    kernel = prior.kernel()
    matrix = torch.zeros((n_classes, len(sites), n_classes, len(sites)), dtype=torch.float64)
    for i, here in enumerate(sites):
        for j, there in enumerate(sites):
            offset = tuple(b - a + 1 for a, b in zip(here, there, strict=True))
            if all(0 <= part < 3 for part in offset):
                matrix[:, i, :, j] = kernel[(slice(None), slice(None), *offset)]
    return matrix.reshape(n_classes * len(sites), -1)


@pytest.mark.parametrize(("dimensions", "count"), [(2, 4 * 16 * 9 + 16 + 68), (3, 1812)])
def test_the_network_has_as_many_parameters_as_the_paper_says(dimensions: int, count: int) -> None:
    prior = PriorSpec(kind="network").build(dimensions, 4)
    assert sum(parameter.numel() for parameter in prior.parameters()) == count


def test_more_classes_share_filters_and_older_files_still_fit() -> None:
    assert len(PriorSpec(max_filters=64).build(3, 8).kernel()) == 64
    assert len(PriorSpec(max_filters=64).build(3, 12).kernel()) == 64
    # A description from before there was a limit.
    older = PriorSpec.model_validate_json('{"kind": "network", "iterations": 10}')
    assert len(older.build(3, 12).kernel()) == 144
    config = PriorConfig()
    assert len(config.spec.build(2, 12).kernel()) == MAX_FILTERS
    message = config.spec.build(2, 12).message(torch.rand(1, 12, 5, 6))
    assert message.shape == (1, 12, 5, 6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_first_layer_starts_as_for_leaky_rectifiers(dimensions: int) -> None:
    n_classes = 6
    kernel = NetworkPrior(dimensions, n_classes).kernel().detach()
    around = kernel.flatten(2)[:, :, kernel[0, 0].flatten() != 0]
    # He et al. 2015: a variance of 2 / ((1 + 0.2^2) n) keeps that of the signal.
    variance = 2 / (1.04 * n_classes * 3**dimensions)
    assert float(around.var()) == pytest.approx(variance, rel=0.1)
    assert float(around.abs().max()) <= math.sqrt(3 * variance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_centre_says_nothing_before_and_after_training(
    kind: type[MarkovPrior], dimensions: int
) -> None:
    prior = kind(dimensions, 3)
    optimiser = torch.optim.Adam(prior.parameters(), lr=0.1)
    unary = random_unary(3, (5,) * dimensions).float()
    for _ in range(3):
        optimiser.zero_grad()
        refine(prior, unary, 3)[:, 0].sum().backward()
        optimiser.step()
    site = (slice(None), slice(None), *[2] * dimensions)
    assert not prior.kernel()[(slice(None), slice(None), *[1] * dimensions)].any()
    other = unary.exp().clone()
    other[site] = other[site].flip(1)
    assert torch.equal(prior.message(unary.exp())[site], prior.message(other)[site])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_message_of_an_energy_is_a_symmetric_matrix(dimensions: int) -> None:
    shape = (3, 4) if dimensions == 2 else (2, 3, 2)
    prior = random_prior(EnergyPrior, dimensions, 3)
    matrix = dense_couplings(prior, shape)
    assert torch.equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    responsibilities = random_unary(3, shape).exp()
    dense = (matrix @ responsibilities.flatten()).reshape(responsibilities.shape)
    torch.testing.assert_close(prior.message(responsibilities), dense)


def test_free_energy_is_the_divergence_from_the_field_up_to_its_normaliser() -> None:
    shape, n_classes = (2, 3), 2
    prior = random_prior(EnergyPrior, 2, n_classes)
    unary = random_unary(n_classes, shape)
    matrix = dense_couplings(prior, shape)
    n_sites = math.prod(shape)
    logarithms, states = [], []
    for labelling in itertools.product(range(n_classes), repeat=n_sites):
        state = torch.zeros((n_classes, n_sites), dtype=torch.float64)
        state[list(labelling), range(n_sites)] = 1
        flat = state.flatten()
        logarithms.append(flat @ unary.flatten() + 0.5 * flat @ matrix @ flat)
        states.append(state)
    log_joint = torch.stack(logarithms)
    log_z = torch.logsumexp(log_joint, dim=0)
    differences = []
    for seed in range(4):
        responsibilities = random_unary(n_classes, shape, seed=10 + seed).exp()
        flat = responsibilities.reshape(n_classes, n_sites)
        log_q = torch.stack([(state * flat.log()).sum() for state in states])
        divergence = (log_q.exp() * (log_q - (log_joint - log_z))).sum()
        energy = free_energy(unary, responsibilities, prior.message(responsibilities))
        differences.append(float((divergence - energy).detach()))
    np.testing.assert_allclose(differences, float(log_z.detach()), atol=1e-10)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_bound_holds_and_is_not_idle(dimensions: int) -> None:
    shape = (7, 6) if dimensions == 2 else (4, 3, 4)
    for seed in range(4):
        prior = random_prior(EnergyPrior, dimensions, 3, seed)
        lowest = float(torch.linalg.eigvalsh(dense_couplings(prior, shape).detach())[0])
        bound = contraction_bound(prior.kernel())
        assert -lowest <= bound
        if dimensions == 2:
            assert bound < -2 * lowest


def energies(
    prior: EnergyPrior, unary: Tensor, update: str, n: int, **options: float
) -> list[float]:
    current = uniform(unary)
    result = []
    for _ in range(n):
        result.append(float(free_energy(unary, current, prior.message(current)).detach()))
        current = refine(prior, unary, 1, update=update, start=current, **options).detach()
    return result


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    dimensions=st.sampled_from([2, 3]),
    n_classes=st.integers(2, 4),
    scale=st.floats(0.05, 2),
)
def test_the_free_energy_never_rises(
    seed: int, dimensions: int, n_classes: int, scale: float
) -> None:
    prior = random_prior(EnergyPrior, dimensions, n_classes, seed, scale)
    unary = random_unary(n_classes, (5, 4, 3)[:dimensions], seed)
    bound = contraction_bound(prior.kernel())
    for update, options in (
        ("parallel", {"damping": 1 / max(1.0, bound)}),
        ("proximal", {"tau": bound}),
        ("coloured", {}),
        ("coloured", {"damping": 0.5}),
    ):
        path = energies(prior, unary, update, 12, **options)
        assert max(np.diff(path)) <= 1e-9 * max(1, *map(abs, path)), (update, path)


def test_undamped_parallel_updates_can_climb() -> None:
    # Repulsion on a grid, the counter-example: neighbours change together, and back.
    prior = potts(2, 3, -1.0)
    unary = random_unary(3, (12, 12), seed=0)
    parallel = energies(prior, unary, "parallel", 30)
    coloured = energies(prior, unary, "coloured", 30)
    assert max(np.diff(parallel)) > 1
    assert parallel[-1] > 1.5 * coloured[-1]
    assert max(np.diff(coloured)) <= 1e-9


def test_strong_attraction_can_climb_too_in_parallel() -> None:
    prior = potts(2, 3, 3.0)
    worst = max(
        max(np.diff(energies(prior, random_unary(3, (12, 12), seed), "parallel", 30)))
        for seed in range(20)
    )
    assert worst > 0.1


@pytest.mark.parametrize("dimensions", [2, 3])
def test_colours_part_all_neighbours(dimensions: int) -> None:
    shape = (4, 5, 3)[:dimensions]
    which = torch.full(shape, -1)
    for number, sites in enumerate(colours(dimensions)):
        assert (which[sites] == -1).all()
        which[sites] = number
    assert which.max() == 2**dimensions - 1
    for here in np.ndindex(*shape):
        for step in itertools.product((-1, 0, 1), repeat=dimensions):
            there = tuple(a + b for a, b in zip(here, step, strict=True))
            inside = all(0 <= part < size for part, size in zip(there, shape, strict=True))
            if any(step) and inside:
                assert which[here] != which[there]


@pytest.mark.parametrize("kind", KINDS)
def test_a_coloured_step_minimises_site_by_site(kind: type[MarkovPrior]) -> None:
    prior = random_prior(kind, 2, 3, scale=0.5)
    unary = random_unary(3, (3, 4))
    expected = uniform(unary)
    for sites in colours(2):
        message = prior.message(expected)
        for y in range(3)[sites[0]]:
            for x in range(4)[sites[1]]:
                expected[0, :, y, x] = torch.softmax(unary + message, dim=1)[0, :, y, x]
    torch.testing.assert_close(coloured_step(unary, uniform(unary), prior), expected)


def test_fixed_points_are_those_of_mean_field() -> None:
    prior = potts(2, 3, 0.2)
    unary = random_unary(3, (6, 5))
    results = [
        refine(prior, unary, 300, update=update, tau=2.0)
        for update in ("parallel", "proximal", "coloured")
    ]
    for result in results:
        expected = parallel_step(unary, result, prior.message(result))
        torch.testing.assert_close(result, expected, atol=1e-8, rtol=0)
        torch.testing.assert_close(result, results[0], atol=1e-7, rtol=0)


def test_no_iterations_or_no_strength_is_the_model_alone() -> None:
    prior = random_prior(NetworkPrior, 2, 3)
    unary = random_unary(3, (4, 4))
    torch.testing.assert_close(refine(prior, unary, 0), unary.exp())
    torch.testing.assert_close(refine(prior, unary, 7, strength=0), unary.exp())


@pytest.mark.parametrize("update", ["parallel", "proximal", "coloured"])
def test_steps_keep_probabilities(update: str) -> None:
    prior = random_prior(NetworkPrior, 3, 4)
    result = refine(prior, random_unary(4, (4, 3, 5), batch=2), 4, update=update, damping=0.7)
    assert (result >= 0).all()
    torch.testing.assert_close(result.sum(dim=1), torch.ones(2, 4, 3, 5, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("update", ["parallel", "proximal", "coloured"])
def test_gradients_flow_through_the_unrolled_iterations(
    kind: type[MarkovPrior], update: str
) -> None:
    prior = random_prior(kind, 2, 2, scale=0.3)
    unary = random_unary(2, (3, 3)).requires_grad_()

    def run(logits: Tensor, *_: Tensor) -> Tensor:
        return refine(prior, logits, 3, update=update, damping=0.8)

    assert torch.autograd.gradcheck(run, (unary, *prior.parameters()), atol=1e-6)


def test_damping_and_proximal_steps_are_as_written() -> None:
    prior = random_prior(EnergyPrior, 2, 3)
    unary = random_unary(3, (3, 3))
    current = random_unary(3, (3, 3), seed=5).exp()
    message = prior.message(current)
    full = torch.softmax(unary + 0.7 * message, dim=1)
    torch.testing.assert_close(
        parallel_step(unary, current, message, 0.7, 0.25), 0.25 * full + 0.75 * current
    )
    held = (unary + 0.7 * message).exp() * current**2.0
    expected = held ** (1 / 3)
    torch.testing.assert_close(
        proximal_step(unary, current, message, 0.7, 2.0), expected / expected.sum(1, keepdim=True)
    )


def test_compatibility_of_a_linear_prior_is_its_weights_less_their_mean() -> None:
    prior = random_prior(EnergyPrior, 3, 3)
    kernel = prior.kernel()
    torch.testing.assert_close(prior.compatibility(), kernel - kernel.mean(dim=1, keepdim=True))


def test_compatibility_of_a_network_is_seen_in_its_messages() -> None:
    prior = random_prior(NetworkPrior, 2, 3)
    table = prior.compatibility()
    field = torch.full((1, 3, 3, 3), 1 / 3, dtype=torch.float64)
    undecided = prior.message(field)[0, :, 1, 1]
    field[0, :, 0, 2] = torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(table[:, 1, 0, 2], prior.message(field)[0, :, 1, 1] - undecided)
    assert not table[:, :, 1, 1].any()
