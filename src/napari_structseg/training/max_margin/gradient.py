r"""How the value of the program changes with the network's logits.

By the envelope theorem only the multipliers count, not how the optimum moves:
:math:`d\gamma/dz = -\sum_k \lambda_k\, dh_k/dz`. The unary term of an image is
:math:`-\sum_i y_i a_i` plus what is the same for every labelling, with :math:`a` the logit of the
second class less that of the first, so that

.. math:: \frac{d\gamma}{da_j} = w_1 \sum_{k \in S(n)} \lambda_k\,(y^k_j - y^*_j)

It is bounded by :math:`w_1 C / N`, and 0 where all active labellings agree with the ground truth.
The paper (equations 10-15 and its supplement) gets the same from a linear system for the
derivatives of weights, slacks and multipliers; that system is the oracle of the tests. The paper
writes its update as :math:`+\eta\,d\gamma`; minimisation needs :math:`-\eta\,d\gamma`. Its equation
(21) sums :math:`U_i(z_j)` where :math:`U_i(z_k)` is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_structseg.training.max_margin.active_set import FloatArray
from napari_structseg.training.max_margin.cutting_planes import Example, Learned


def logit_gradients(examples: Sequence[Example], learned: Learned) -> list[FloatArray]:
    """The derivative of gamma by the logit of each voxel.

    Parameters
    ----------
    examples
        Those that were learned from; the first feature is the unary energy.
    learned
        Of :func:`~napari_structseg.training.max_margin.cutting_planes.learn`.

    Returns
    -------
    list
        For each image ``(*spatial)``.
    """
    multipliers = iter(learned.optimum.multipliers)
    unary_weight = learned.weights[0]
    gradients = []
    for number, example in enumerate(examples):
        gradient = np.zeros(example.truth.shape)
        for labels in learned.working.labellings(number):
            multiplier = next(multipliers)
            if multiplier:
                gradient += multiplier * (labels.astype(np.float64) - example.truth)
        gradients.append(unary_weight * gradient)
    return gradients
