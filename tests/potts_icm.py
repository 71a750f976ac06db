"""A second solver, small and of another kind: iterated conditional modes on a Potts model.

Besag, *On the statistical analysis of dirty pictures*, 1986. It weighs the edges of the image as
a graph cut would, and gives labels but no probabilities.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from napari_structseg.distributions import whole
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.solver import Progress, Step


@dataclass(frozen=True)
class PottsSettings:
    beta: float = 1.0
    sweeps: int = 4


def weights_of(image, shape, axis):
    """How much two neighbours along an axis are coupled: less across an edge of the image."""
    if image is None:
        return np.ones([size - (a == axis) for a, size in enumerate(shape)])
    return np.exp(-(np.diff(image.data[0].astype(float), axis=axis) ** 2) / 2)


def energy(unary, labels, image, beta):
    """E(y) = -sum U(y) + beta sum over neighbours that differ, dense and slow."""
    cost = -np.take_along_axis(unary, labels[None].astype(int), 0).sum()
    for axis in range(labels.ndim):
        differ = np.diff(labels.astype(int), axis=axis) != 0
        cost += beta * (weights_of(image, labels.shape, axis) * differ).sum()
    return float(cost)


class PottsICM:
    """A solver; the labels of every sweep are kept."""

    def __init__(self):
        self._kept = {}

    def solve(self, problem, settings, axis=0, *, until_converged=False):
        if settings.beta < 0:
            raise ConfigError("beta is at least 0.")
        key = (problem.key, settings.beta)
        if key not in self._kept:
            self._kept[key] = []
        return _Solution(problem, settings, self._kept[key], until_converged)

    def required_bytes(self, n_classes, shape):
        # Logits in double precision, and labels of every sweep.
        return int(np.prod(shape)) * (8 * n_classes + 50)


class _Solution:
    def __init__(self, problem, settings, stages, until_converged):
        self._problem, self._settings, self._stages = problem, settings, stages
        self._until_converged = until_converged

    def _ready(self):
        if not self._stages:
            unary = self._problem.logits(whole(self._problem.shape)).double().cpu().numpy()
            if not np.isfinite(unary).all():
                raise InputError("The logits are not all finite. Check the model.")
            self._stages.append(unary.argmax(axis=0).astype(np.uint8))
        return self._stages

    @property
    def _shown(self):
        stages = self._ready()
        if self._until_converged:
            for n, (a, b) in enumerate(itertools.pairwise(stages)):
                if np.array_equal(a, b):
                    return min(n, self._settings.sweeps)
        return min(len(stages) - 1, self._settings.sweeps)

    @property
    def _is_settled(self):
        stages = self._ready()
        return any(np.array_equal(a, b) for a, b in itertools.pairwise(stages))

    @property
    def is_done(self):
        is_settled = self._until_converged and self._is_settled
        return len(self._ready()) > self._settings.sweeps or is_settled

    def is_ready(self, region):
        return self.is_done

    def is_preliminary(self, region):
        return False

    def energy(self, region):
        return None

    def cancel(self):
        pass

    def advance(self, visible):
        if self.is_done:
            return Step.NOTHING
        unary = self._problem.logits(whole(self._problem.shape)).double().cpu().numpy()
        labels = self._stages[-1].copy()
        shape, beta = labels.shape, self._settings.beta
        couplings = [weights_of(self._problem.image, shape, axis) for axis in range(len(shape))]
        for site in np.ndindex(*shape):
            score = unary[(slice(None), *site)].copy()
            for axis, direction in itertools.product(range(len(shape)), (-1, 1)):
                place = list(site)
                place[axis] += direction
                if 0 <= place[axis] < shape[axis]:
                    edge = (*site[:axis], min(site[axis], place[axis]), *site[axis + 1 :])
                    score[labels[tuple(place)]] += beta * couplings[axis][edge]
            labels[site] = score.argmax()
        self._stages.append(labels)
        return Step.VISIBLE

    def labels(self, region):
        return self._ready()[self._shown][region].copy()

    def changed(self, region, since):
        shown = self._shown
        before = 0 if since is Changes.START else max(shown - 1, 0)
        return self._ready()[shown][region] != self._stages[before][region]

    def progress(self):
        reached = self._shown
        is_converged = self._until_converged and self._is_settled
        target = reached if is_converged else self._settings.sweeps
        share = 1.0 if self.is_done else reached / self._settings.sweeps
        return Progress(reached, target, is_converged, share=share)

    def probabilities(self, region):
        return None
