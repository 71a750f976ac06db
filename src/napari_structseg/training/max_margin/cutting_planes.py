r"""Algorithm 1: the constraints of all labellings, by adding those that are violated.

Of each image, every labelling y must cost more than the ground truth by its Hamming distance,
less the image's slack: :math:`h = E(y) - E(y^*) - \Delta(y, y^*) + \xi_n \ge 0`. The one that is
violated most minimises :math:`E(y) - \Delta(y, y^*)`. The distance is a sum over voxels, so that
this is a cut again, with 1 less for the wrong class of each voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Protocol

import numpy as np

from napari_structseg.training.max_margin.quadratic import (
    Constraints,
    FloatArray,
    Optimum,
    solve,
)
from napari_structseg.training.max_margin.working_set import BoolArray, WorkingSet

# Of the voxels of an image: by so much a constraint may be violated at the end.
TOLERANCE = 1e-4


class Example(Protocol):
    """An image with its ground truth, under the network of the moment."""

    @property
    def truth(self) -> BoolArray:
        """Where the second class is, ``(*spatial)``."""
        ...

    def features(self, labels: BoolArray) -> FloatArray:
        """Features of a labelling, phi, so that its energy is w . phi; ``(F,)``."""
        ...

    def most_violated(self, weights: FloatArray) -> BoolArray:
        """The labelling that minimises w . phi(y) less its Hamming distance from the truth."""
        ...


@dataclass(frozen=True, slots=True)
class Learned:
    """What Algorithm 1 ends with.

    Attributes
    ----------
    optimum
        Weights, slacks and multipliers; the multipliers in the order of :func:`constraints_of`.
    working
        The labellings.
    violation
        The largest violation of any constraint, as a share of the voxels of its image.
    rounds
        How often each image was searched.
    """

    optimum: Optimum
    working: WorkingSet
    violation: float
    rounds: int

    @property
    def weights(self) -> FloatArray:
        """w, ``(F,)``."""
        return self.optimum.weights


def learn(
    examples: Sequence[Example],
    *,
    cost: float,
    tolerance: float = TOLERANCE,
    working: WorkingSet | None = None,
    guess: FloatArray | None = None,
    rounds: int | None = None,
) -> Learned:
    """Find the weights of a CRF by cutting planes.

    Without a limit of rounds it ends when no constraint of any image is violated by more than the
    tolerance, or where all that are violated are known: then the program that was solved has all
    of them. It does end, since an image has finitely many labellings and none is added twice.

    Parameters
    ----------
    examples
        At least one.
    cost
        C.
    tolerance
        Largest violation that is left, as a share of the voxels of an image.
    working
        Labellings to begin with, of these images; added to. None: none.
    guess
        Weights with which violated constraints are looked for first, where there are no
        labellings yet. They save rounds and do not change the result, beyond the tolerance.
    rounds
        At most so many; None: as many as it takes.

    Raises
    ------
    StructSegError
        If a program cannot be solved.
    """
    known = WorkingSet([one.truth for one in examples]) if working is None else working
    optimum: Optimum | None = None
    violation, done = np.inf, 0
    if len(known):
        optimum = solve(constraints_of(examples, known), cost)
    for _ in islice(repeat(None), rounds):
        slacks = np.zeros(len(examples)) if optimum is None else optimum.slacks
        weights = _start(examples, guess) if optimum is None else optimum.weights
        violation, n_added = 0.0, 0
        for number, example in enumerate(examples):
            labels = example.most_violated(weights)
            excess = _excess(example, labels, weights) - float(slacks[number])
            violation = max(violation, excess / labels.size)
            if excess > tolerance * labels.size:
                n_added += known.add(number, labels)
        done += 1
        if n_added:
            optimum = solve(constraints_of(examples, known), cost, optimum)
        elif optimum is None and guess is not None:
            # The guess separates every image; only the optimum of a program may say so.
            guess = None
        else:
            break
    if optimum is None:
        optimum = _without_constraints(examples)
    return Learned(optimum, known, violation, done)


def constraints_of(examples: Iterable[Example], working: WorkingSet) -> Constraints:
    """The constraints of stored labellings, image by image, under the network of the moment."""
    differences, losses, images = [], [], []
    for number, example in enumerate(examples):
        of_truth = example.features(example.truth)
        for labels in working.labellings(number):
            differences.append(example.features(labels) - of_truth)
            losses.append(float(np.count_nonzero(labels != example.truth)))
            images.append(number)
    return Constraints(np.array(differences), np.array(losses), np.array(images), working.n_images)


def _excess(example: Example, labels: BoolArray, weights: FloatArray) -> float:
    """How much slack a labelling needs: its distance less what it costs beyond the truth."""
    difference = example.features(labels) - example.features(example.truth)
    return float(np.count_nonzero(labels != example.truth) - weights @ difference)


def _start(examples: Sequence[Example], guess: FloatArray | None) -> FloatArray:
    # Without constraints the optimum of the program is w = 0.
    return np.zeros(len(examples[0].features(examples[0].truth))) if guess is None else guess


def _without_constraints(examples: Sequence[Example]) -> Optimum:
    return Optimum(_start(examples, None), np.zeros(len(examples)), np.zeros(0), 0.0)
