r"""Algorithm 1: the constraints of all labellings, by adding those that are violated.

Of each image, every labelling y must cost more than the ground truth by its Hamming distance,
less the image's slack: :math:`h = E(y) - E(y^*) - \Delta(y, y^*) + \xi_n \ge 0`. The one that is
violated most minimises :math:`E(y) - \Delta(y, y^*)`. The distance is a sum over voxels, so that
this is a cut again, with 1 less for the wrong class of each voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Protocol

import numpy as np

from napari_structseg.training.max_margin.active_set import FloatArray
from napari_structseg.training.max_margin.quadratic import Constraints, Optimum, solve
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
        The largest violation that the last round found, as a share of the voxels of an image;
        infinite where there was no round.
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
    rows = _Rows(examples, known)
    optimum = solve(rows.constraints(), cost) if len(known) else None
    violation, done = np.inf, 0
    for _ in islice(repeat(None), rounds):
        slacks = np.zeros(len(examples)) if optimum is None else optimum.slacks
        weights = rows.start(guess) if optimum is None else optimum.weights
        violation, n_added = 0.0, 0
        for number, (example, slack) in enumerate(zip(examples, slacks, strict=True)):
            labels = example.most_violated(weights)
            difference, loss = rows.row(number, labels)
            # How much more slack this labelling needs.
            excess = loss - float(weights @ difference) - float(slack)
            violation = max(violation, excess / labels.size)
            if excess > tolerance * labels.size and known.add(number, labels):
                rows.append(number, difference, loss)
                n_added += 1
        done += 1
        if n_added:
            optimum = solve(rows.constraints(), cost, optimum)
        elif optimum is None and guess is not None:
            # The guess separates every image; only the optimum of a program may say so.
            guess = None
        else:
            break
    if optimum is None:
        optimum = Optimum(rows.start(None), np.zeros(len(examples)), np.zeros(0), 0.0)
    return Learned(optimum, known, violation, done)


def constraints_of(examples: Sequence[Example], working: WorkingSet) -> Constraints:
    """The constraints of stored labellings, image by image, under the network of the moment."""
    return _Rows(examples, working).constraints()


class _Rows:
    """What the program needs of each stored labelling, computed once."""

    def __init__(self, examples: Sequence[Example], working: WorkingSet) -> None:
        self._examples = examples
        self._of_truths = [one.features(one.truth) for one in examples]
        self._rows: list[list[tuple[FloatArray, float]]] = [
            [self.row(number, labels) for labels in working.labellings(number)]
            for number in range(len(examples))
        ]

    def row(self, number: int, labels: BoolArray) -> tuple[FloatArray, float]:
        """Features less those of the ground truth, and the Hamming distance from it."""
        example = self._examples[number]
        difference = example.features(labels) - self._of_truths[number]
        return difference, float(np.count_nonzero(labels != example.truth))

    def append(self, number: int, difference: FloatArray, loss: float) -> None:
        """Keep what :meth:`row` said of a new labelling."""
        self._rows[number].append((difference, loss))

    def constraints(self) -> Constraints:
        """Those of all labellings."""
        rows = [row for of_image in self._rows for row in of_image]
        images = np.repeat(np.arange(len(self._rows)), [len(one) for one in self._rows])
        differences = np.array([difference for difference, _ in rows])
        return Constraints(
            differences, np.array([loss for _, loss in rows]), images, len(self._rows)
        )

    def start(self, guess: FloatArray | None) -> FloatArray:
        """Weights before there is any labelling; without a guess, the optimum of no constraint."""
        return np.zeros_like(self._of_truths[0]) if guess is None else guess
