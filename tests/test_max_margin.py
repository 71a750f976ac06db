"""Algorithm 1 of max-margin learning: the program, its cutting planes, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, pairwise, product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from napari_structseg.priors.contrast import CRFSpec, edges_of
from napari_structseg.training.max_margin.cutting_planes import constraints_of, learn
from napari_structseg.training.max_margin.example import CutExample, spec_of
from napari_structseg.training.max_margin.gradient import logit_gradients
from napari_structseg.training.max_margin.quadratic import Constraints, Optimum, solve
from napari_structseg.training.max_margin.working_set import WorkingSet

SHAPE = (3, 3)
ALL = np.array(list(product([False, True], repeat=9))).reshape(-1, *SHAPE)


@dataclass(frozen=True)
class Tiny:
    """An image of nine pixels, all of whose labellings are looked at."""

    logits: npt.NDArray[np.float64]
    image: npt.NDArray[np.float64]
    truth: npt.NDArray[np.bool_]

    def features(self, labels):
        signed = np.where(labels, self.logits, -self.logits)
        found = [np.logaddexp(0, -signed).sum(), 0.0, 0.0]
        for axis in (0, 1):
            unequal = np.diff(labels.astype(int), axis=axis) != 0
            found[1] += unequal.sum()
            found[2] += np.exp(-0.5 * np.diff(self.image, axis=axis) ** 2)[unequal].sum()
        return np.array(found)

    @cached_property
    def all_features(self):
        return np.array([self.features(y) for y in ALL])

    def most_violated(self, weights):
        losses = (self.truth != ALL).sum(axis=(1, 2))
        return ALL[int(np.argmin(self.all_features @ weights - losses))]


def tiny(seed: int, *, confident: float = 1.0) -> Tiny:
    rng = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, bool)
    truth[:, : rng.integers(1, 3)] = True
    logits = confident * (2 * truth - 1) + rng.normal(size=SHAPE)
    return Tiny(logits, 2 * truth + rng.normal(size=SHAPE), truth)


def random_program(seed: int, n_rows: int, n_images: int, scale: float = 1.0) -> Constraints:
    rng = np.random.default_rng(seed)
    return Constraints(
        scale * rng.normal(1, 2, (n_rows, 3)),
        scale * rng.integers(1, 9, n_rows).astype(float),
        np.sort(rng.integers(0, n_images, n_rows)),
        n_images,
    )


def by_enumeration(program: Constraints, cost: float) -> Optimum:
    """The optimum by trying every set of active constraints: exact, with its multipliers."""
    n_rows, n_weights = program.differences.shape
    size = n_weights + program.n_images
    matrix = np.zeros((n_rows, size))
    matrix[:, :n_weights] = program.differences
    matrix[np.arange(n_rows), n_weights + program.images] = 1
    matrix = np.vstack([matrix, np.eye(size)])
    lower = np.concatenate([program.losses, np.zeros(size)])
    quadratic = np.diag([1.0] * n_weights + [0.0] * program.n_images)
    linear = np.repeat([0.0, cost / program.n_images], [n_weights, program.n_images])
    indices = range(len(lower))
    for active in chain.from_iterable(combinations(indices, n) for n in range(size + 1)):
        rows = matrix[list(active)]
        system = np.block([[quadratic, -rows.T], [rows, np.zeros((len(active),) * 2)]])
        right = np.concatenate([-linear, lower[list(active)]])
        if np.linalg.matrix_rank(system) < len(system):
            continue
        solution = np.linalg.solve(system, right)
        point, duals = solution[:size], solution[size:]
        if (matrix @ point - lower).min() > -1e-9 and (len(duals) == 0 or duals.min() > -1e-9):
            multipliers = np.zeros(len(lower))
            multipliers[list(active)] = duals
            value = 0.5 * point @ quadratic @ point + linear @ point
            return Optimum(point[:n_weights], point[n_weights:], multipliers[:n_rows], value)
    raise AssertionError("no optimum")


# The program.


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 2), st.floats(0.01, 100))
def test_program_has_the_optimum_and_multipliers_of_an_enumeration(
    seed: int, n_rows: int, n_images: int, cost: float
) -> None:
    program = random_program(seed, n_rows, n_images)
    expected, found = by_enumeration(program, cost), solve(program, cost)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-5)
    np.testing.assert_allclose(found.slacks, expected.slacks, atol=1e-5)
    np.testing.assert_allclose(found.multipliers, expected.multipliers, atol=1e-6 * max(1, cost))
    assert found.value == pytest.approx(expected.value, abs=1e-5)


def test_large_programs_agree_with_another_solver() -> None:
    program, cost = random_program(3, 60, 6), 2.0
    found = solve(program, cost)

    def objective(x):
        return 0.5 * x[:3] @ x[:3] + cost / 6 * x[3:].sum()

    other = optimize.minimize(
        objective,
        np.concatenate([np.zeros(3), np.full(6, 10.0)]),
        method="SLSQP",
        bounds=[(0, None)] * 9,
        constraints={
            "type": "ineq",
            "fun": lambda x: program.differences @ x[:3] + x[3:][program.images] - program.losses,
        },
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert other.success
    assert found.value == pytest.approx(other.fun, rel=1e-6)
    np.testing.assert_allclose(found.weights, other.x[:3], atol=1e-4)


def program_of_images(seed: int) -> Constraints:
    """As of ten images with 12,288 pixels: the pairwise features are nearly proportional."""
    rng = np.random.default_rng(seed)
    losses = rng.integers(500, 4000, 120).astype(float)
    pairs = rng.normal(80, 150, 120)
    features = np.stack([rng.normal(0.6, 0.9, 120) * losses, pairs, 0.3 * pairs], axis=1)
    return Constraints(features + rng.normal(0, 5, (120, 3)), losses, np.repeat(range(10), 12), 10)


@pytest.mark.parametrize(
    ("program", "scale"),
    [
        (random_program(5, 80, 10), 1.0),
        (random_program(5, 80, 10, 1e4), 1e4),
        (program_of_images(0), 4000),
        (program_of_images(1), 4000),
    ],
)
def test_multipliers_meet_the_conditions_of_an_optimum(program: Constraints, scale: float) -> None:
    cost = 1.0
    found = solve(program, cost)
    weights, slacks, duals = found.weights, found.slacks, found.multipliers
    # Constraints and signs hold.
    gaps = program.differences @ weights + slacks[program.images] - program.losses
    assert gaps.min() > -1e-6 * scale
    assert weights.min() >= 0
    assert slacks.min() >= 0
    assert duals.min() >= 0
    # What a multiplier belongs to is active.
    assert np.abs(gaps * duals).max() < 1e-6 * scale * cost
    # w - sum lambda d = 0, but for a weight that is held at 0, where it is not negative.
    rest = weights - program.differences.T @ duals
    assert rest.min() > -1e-7
    assert np.abs(rest * weights).max() < 1e-7
    sums = np.bincount(program.images, duals, program.n_images)
    assert sums.max() <= cost / program.n_images * (1 + 1e-6)
    # Strong duality.
    assert program.losses @ duals - 0.5 * weights @ weights == pytest.approx(found.value, rel=1e-9)


def test_a_start_leaves_the_optimum_as_it_is() -> None:
    program = random_program(9, 30, 4)
    fewer = Constraints(program.differences[:20], program.losses[:20], program.images[:20], 4)
    cold, warm = solve(program, 1.0), solve(program, 1.0, solve(fewer, 1.0))
    np.testing.assert_allclose(warm.weights, cold.weights, atol=1e-7)
    np.testing.assert_allclose(warm.multipliers, cold.multipliers, atol=1e-7)


def test_weights_are_not_negative() -> None:
    # Each asks for a negative weight.
    program = Constraints(-np.eye(3), np.ones(3), np.zeros(3, int), 1)
    found = solve(program, 10.0)
    np.testing.assert_array_equal(found.weights, 0)
    np.testing.assert_allclose(found.slacks, 1, atol=1e-8)


# The working set.


def test_a_labelling_is_kept_once_and_the_truth_never() -> None:
    example = tiny(0)
    working = WorkingSet([example.truth])
    labels = ~example.truth
    assert working.add(0, labels)
    assert not working.add(0, labels.copy())
    assert not working.add(0, example.truth)
    assert len(working) == 1
    assert working.packed(0).shape == (1, 2)
    np.testing.assert_array_equal(next(working.labellings(0)), labels)
    with pytest.raises(ValueError, match="do not fit"):
        working.add(0, labels[:2])


# Algorithm 1.


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 20.0]))
def test_it_ends_with_every_constraint_satisfied(seed: int, cost: float) -> None:
    examples = [tiny(seed), tiny(seed + 1)]
    found = learn(examples, cost=cost)
    assert found.violation <= 1e-4
    for example, slack in zip(examples, found.optimum.slacks, strict=True):
        energy = found.weights @ example.features(example.truth)
        margins = [
            found.weights @ example.features(y) - energy - (y != example.truth).sum() + slack
            for y in ALL
        ]
        assert min(margins) >= -1e-4 * 9 - 1e-6


def test_it_has_the_value_of_the_program_with_every_labelling() -> None:
    examples = [tiny(4), tiny(5)]
    found = learn(examples, cost=3.0, tolerance=1e-7)
    every = WorkingSet([one.truth for one in examples])
    for number in range(2):
        for labels in ALL:
            every.add(number, labels)
    assert len(found.working) < 50 < len(every)
    complete = solve(constraints_of(examples, every), 3.0)
    assert found.optimum.value == pytest.approx(complete.value, rel=1e-5)
    np.testing.assert_allclose(found.weights, complete.weights, atol=1e-4)


def test_a_guess_and_known_labellings_do_not_change_the_result() -> None:
    examples = [tiny(6), tiny(7)]
    plain = learn(examples, cost=5.0, tolerance=1e-7)
    guessed = learn(examples, cost=5.0, tolerance=1e-7, guess=np.array([3.0, 1, 1]))
    # All images are separated by this guess at once, but it is not the optimum.
    generous = learn(examples, cost=5.0, tolerance=1e-7, guess=np.array([1e5, 0, 0]))
    known = learn(examples, cost=5.0, tolerance=1e-7, working=plain.working)
    for other in (guessed, generous, known):
        np.testing.assert_allclose(other.weights, plain.weights, atol=1e-4)
    assert known.rounds == 1


def test_a_limit_of_rounds_says_what_is_left() -> None:
    found = learn([tiny(8)], cost=100.0, rounds=1)
    assert found.rounds == 1
    assert len(found.working) == 1
    assert found.violation > 1e-4


# With graph cuts.


def by_cuts(example: Tiny) -> CutExample:
    # A noise of 1: intensities as they are.
    edges = edges_of(example.image[None], noise=(1.0,))
    logits = np.stack([np.zeros(SHAPE), example.logits])
    return CutExample(logits, example.truth, edges, scale=1.0)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(0, 300)),
)
def test_the_most_violated_labelling_is_that_of_an_enumeration(seed: int, weights) -> None:
    example, weights = tiny(seed), np.array(weights)
    cut = by_cuts(example)
    labels, expected = cut.most_violated(weights), example.most_violated(weights)
    np.testing.assert_allclose(cut.features(labels), example.features(labels), rtol=1e-5, atol=1e-5)

    def augmented(one) -> float:
        return weights @ example.features(one) - (one != example.truth).sum()

    assert augmented(labels) == pytest.approx(augmented(expected), rel=1e-5, abs=1e-5)


def test_learning_by_cuts_is_learning_by_enumeration() -> None:
    examples = [tiny(4), tiny(5)]
    expected = learn(examples, cost=3.0, tolerance=1e-6)
    found = learn([by_cuts(one) for one in examples], cost=3.0, tolerance=1e-6)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-4)


def test_learned_weights_beyond_the_range_of_a_crf_keep_their_proportions() -> None:
    spec = spec_of(np.array([20.0, 400.0, 0.0]), CRFSpec(scale=2, neighbours="all"))
    assert (spec.unary, spec.smooth, spec.contrast) == (5, 100, 0)
    assert (spec.scale, spec.neighbours) == (2, "all")
    assert spec_of(np.array([0.5, 1, 2]), CRFSpec()).unary == 0.5


# The gradient.


def settled_examples(seed: int) -> tuple[list[Tiny], WorkingSet]:
    examples = [tiny(seed), tiny(seed + 1)]
    return examples, learn(examples, cost=2.0, tolerance=1e-7).working


def value_of(examples: list[Tiny], working: WorkingSet) -> float:
    return solve(constraints_of(examples, working), 2.0).value


def moved(examples: list[Tiny], image: int, voxel: tuple[int, int], by: float) -> list[Tiny]:
    logits = examples[image].logits.copy()
    logits[voxel] += by
    changed = list(examples)
    changed[image] = Tiny(logits, examples[image].image, examples[image].truth)
    return changed


@pytest.mark.parametrize("seed", [4, 12, 30])
def test_gradient_agrees_with_finite_differences(seed: int) -> None:
    examples, working = settled_examples(seed)
    learned = learn(examples, cost=2.0, working=working, rounds=1, tolerance=1e-3)
    gradients = logit_gradients(examples, learned)
    step = 1e-4
    found = np.zeros((2, *SHAPE))
    for image, *voxel in product(range(2), range(3), range(3)):
        ahead, behind = (
            value_of(moved(examples, image, tuple(voxel), sign * step), working) for sign in (1, -1)
        )
        found[image, *voxel] = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(np.stack(gradients), found, atol=1e-5)
    assert np.abs(found).max() > 1e-3


@pytest.mark.parametrize("seed", [4, 12, 30])
def test_gradient_agrees_with_the_linear_system_of_the_paper(seed: int) -> None:
    examples, working = settled_examples(seed)
    learned = learn(examples, cost=2.0, working=working, rounds=1, tolerance=1e-3)
    gradients = np.stack(logit_gradients(examples, learned))
    program = constraints_of(examples, working)
    optimum = learned.optimum
    for image, *voxel in product(range(2), range(3), range(3)):
        example, at = examples[image], tuple(voxel)
        # Of the unary feature of each stored labelling: only those of this image change.
        labels = [y[at] for y in working.labellings(image)]
        change = np.zeros((len(program.losses), 3))
        change[program.images == image, 0] = [
            -(float(y) - float(example.truth[at])) for y in labels
        ]
        assert by_the_system(program, optimum, change) == pytest.approx(
            gradients[image][at], abs=1e-6
        )


def by_the_system(program: Constraints, optimum: Optimum, change) -> float:
    """d gamma by differentiating the conditions of the optimum (equations 10-15).

    Unknown are the derivatives of w, of the slacks, and of the multipliers of what is active:

        dw - sum_k (dlambda_k d_k + lambda_k dd_k) - dmu = 0     stationary in w
        sum_{k in n} dlambda_k + dnu_n = 0                       stationary in xi_n
        dw . d_k + w . dd_k + dxi_n = 0                          active constraints stay active
    """
    cost, n_images = 2.0, program.n_images
    active = np.flatnonzero(optimum.multipliers > 1e-7)
    held = [i for i in range(3) if optimum.weights[i] < 1e-7]
    empty = [n for n in range(n_images) if optimum.slacks[n] < 1e-6]
    sizes = np.cumsum([0, 3, n_images, len(active), len(held), len(empty)])
    system, right = np.zeros((sizes[-1],) * 2), np.zeros(sizes[-1])
    w, xi, lam, mu, nu = (slice(a, b) for a, b in pairwise(sizes))
    d, owner = program.differences[active], program.images[active]
    slack = np.eye(n_images)[owner]
    system[w, w] = np.eye(3)
    system[w, lam] = -d.T
    system[w, mu] = -np.eye(3)[:, held]
    right[w] = optimum.multipliers[active] @ change[active]
    system[xi, lam] = slack.T
    system[xi, nu] = np.eye(n_images)[:, empty]
    system[lam, w], system[lam, xi] = d, slack
    right[lam] = -(change[active] @ optimum.weights)
    system[mu, w] = np.eye(3)[held]
    system[nu, xi] = np.eye(n_images)[empty]
    solution = np.linalg.lstsq(system, right, rcond=None)[0]
    np.testing.assert_allclose(system @ solution, right, atol=1e-8)
    return float(optimum.weights @ solution[w] + cost / n_images * solution[xi].sum())


def test_gradient_is_bounded_and_zero_without_violation() -> None:
    examples = [tiny(3), tiny(20, confident=30)]
    learned = learn(examples, cost=2.0)
    first, second = logit_gradients(examples, learned)
    bound = learned.weights[0] * 2.0 / 2
    assert 0 < np.abs(first).max() <= bound * (1 + 1e-6)
    # Margins of the second are met as soon as those of the first are: it has no slack to gain.
    assert learned.optimum.slacks[1] == pytest.approx(0, abs=1e-6)
    assert np.abs(second).max() < np.abs(first).max()
