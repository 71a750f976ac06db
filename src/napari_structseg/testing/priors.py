"""What every MRF on labels must fulfil: a suite to inherit."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.controls import MeanFieldSettings
from napari_structseg.distributions import whole
from napari_structseg.priors import (
    MarkovPrior,
    Update,
    contraction_bound,
    free_energy,
    mirrored,
    nudged,
    refine,
    uniform,
)
from napari_structseg.refine.mean_field import MeanFieldSolver
from napari_structseg.testing.solvers import finish, problem_of

UPDATES: tuple[Update, ...] = ("parallel", "proximal", "coloured")
# Rounding of double precision, summed over a small image.
_ROUNDING = 1e-9


class MarkovPriorContract:
    """Inherit, and give the fixture ``prior``, with weights that are not at their start."""

    @pytest.fixture
    def prior(self) -> MarkovPrior:
        """The MRF, in double precision."""
        raise NotImplementedError

    @pytest.fixture
    def unary(self, prior: MarkovPrior) -> Tensor:
        """Log-likelihoods of two small images, ``(2, K, *spatial)``, double precision."""
        shape = (5, 4) if prior.dimensions == 2 else (3, 4, 3)
        generator = torch.Generator().manual_seed(0)
        size = (2, prior.n_classes, *shape)
        logits = torch.randn(size, generator=generator, dtype=torch.float64)
        return torch.log_softmax(logits, dim=1)

    def test_the_first_stage_is_a_block_of_neighbours_without_the_site(
        self, prior: MarkovPrior
    ) -> None:
        """Shapes of the kernel and its bias; zero at the centre."""
        kernel = prior.kernel()
        assert kernel.shape[1:] == (prior.n_classes, *[3] * prior.dimensions)
        assert prior.first_bias().shape == kernel.shape[:1]
        assert not kernel.flatten(2)[..., kernel[0, 0].numel() // 2].any()
        assert kernel.any(), "these weights couple nothing"

    def test_the_message_is_that_of_the_neighbours_one_by_one(
        self, prior: MarkovPrior, unary: Tensor
    ) -> None:
        """The dense oracle: a sum over neighbours, nobody beyond the border."""
        responsibilities = unary.exp()
        message, kernel = prior.message(responsibilities), prior.kernel()
        shape = unary.shape[2:]
        for image, site in itertools.product(range(2), np.ndindex(*shape)):
            first = prior.first_bias().clone()
            for offset in itertools.product((-1, 0, 1), repeat=prior.dimensions):
                there = tuple(a + b for a, b in zip(site, offset, strict=True))
                if all(0 <= at < size for at, size in zip(there, shape, strict=True)):
                    place = tuple(part + 1 for part in offset)
                    at_offset = kernel.flatten(2)[
                        ..., np.ravel_multi_index(place, kernel.shape[2:])
                    ]
                    first = first + at_offset @ responsibilities[(image, slice(None), *there)]
            torch.testing.assert_close(
                message[(image, slice(None), *site)], prior.mix(first[:, None])[:, 0]
            )

    def test_nothing_is_remembered_and_nothing_changed(
        self, prior: MarkovPrior, unary: Tensor
    ) -> None:
        """The same input gives the same message, which leaves the input as it is."""
        given = unary.exp()
        before = given.clone()
        first = prior.message(given)
        prior.message(torch.rand_like(given))
        assert torch.equal(prior.message(given), first)
        assert torch.equal(given, before)

    def test_a_mirrored_image_has_the_mirrored_message(
        self, prior: MarkovPrior, unary: Tensor
    ) -> None:
        """Along each axis, and with the MRF that was given left as it is."""
        kernel = prior.kernel().clone()
        for axis in range(prior.dimensions):
            turned = mirrored(prior, [axis]).message(unary.exp().flip(2 + axis))
            torch.testing.assert_close(turned.flip(2 + axis), prior.message(unary.exp()))
        assert torch.equal(prior.kernel(), kernel)

    def test_a_nudge_adds_the_mean_of_the_neighbours(
        self, prior: MarkovPrior, unary: Tensor
    ) -> None:
        """A nudged pair gains the amount times the other class around it; others gain nothing."""
        given = unary.exp()
        gained = nudged(prior, [(0, 1, 0.7)]).message(given) - prior.message(given)
        padded = torch.nn.functional.pad(given, (1, 1) * prior.dimensions)
        around = torch.zeros_like(given)
        for offset in itertools.product((0, 1, 2), repeat=prior.dimensions):
            if offset != (1,) * prior.dimensions:
                window = [slice(o, o + n) for o, n in zip(offset, given.shape[2:], strict=True)]
                around += padded[:, :, *window] / prior.n_neighbours
        torch.testing.assert_close(gained[:, 0], 0.7 * around[:, 1])
        torch.testing.assert_close(gained[:, 1], 0.7 * around[:, 0])
        assert float(gained[:, 2:].detach().abs().sum()) < _ROUNDING

    def test_training_reaches_every_parameter(self, prior: MarkovPrior, unary: Tensor) -> None:
        """Gradients flow through three iterations to all parameters, and stay off the centre."""
        trained = copy.deepcopy(prior).requires_grad_(True)
        refine(trained, unary, 3)[:, 0].sum().backward()
        for name, parameter in trained.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_the_free_energy_never_rises_where_there_is_one(
        self, prior: MarkovPrior, unary: Tensor
    ) -> None:
        """Coloured sweeps descend, and so do proximal steps that are held back enough."""
        if not prior.has_energy:
            return
        kernel = prior.kernel()
        flipped = kernel.transpose(0, 1).flip(list(range(2, kernel.ndim)))
        torch.testing.assert_close(kernel, flipped)
        bound = contraction_bound(kernel)
        for strength, update in itertools.product((0.5, 1.0, 3.0), ("coloured", "proximal")):
            current, last = uniform(unary), torch.full((2,), torch.inf, dtype=unary.dtype)
            for _ in range(6):
                energy = free_energy(unary, current, prior.message(current), strength)
                assert (energy <= last + _ROUNDING).all(), (strength, update)
                last = energy
                current = refine(
                    prior,
                    unary,
                    1,
                    strength=strength,
                    update="coloured" if update == "coloured" else "proximal",
                    tau=strength * bound,
                    start=current,
                )

    def test_refined_labels_are_those_of_the_definition(
        self, prior: MarkovPrior, unary: Tensor
    ) -> None:
        """Slab by slab, in single precision, as they are shown."""
        single = copy.deepcopy(prior).float().requires_grad_(False)
        logits = unary[0].float()
        shape = tuple(logits.shape[1:])
        bound = contraction_bound(single.kernel()) if single.has_energy else 1.0
        for update in UPDATES:
            settings = MeanFieldSettings(iterations=3, update_rule=update)
            solution = MeanFieldSolver(single).solve(problem_of(logits, update), settings)
            finish(solution, whole(shape))
            expected = refine(single, logits[None], 3, update=update, tau=bound)[0]
            given = solution.probabilities(whole(shape))
            np.testing.assert_allclose(given, expected.numpy(), atol=1e-5)
            assert np.array_equal(solution.labels(whole(shape)), given.argmax(axis=0))
