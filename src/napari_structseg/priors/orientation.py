"""An MRF on arrays whose axes run the other way."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from napari_structseg.priors.base import MarkovPrior


def mirrored(prior: MarkovPrior, axes: Sequence[int]) -> MarkovPrior:
    """The MRF that says on a mirrored image what this one says on the image.

    Parameters
    ----------
    prior
        A trained MRF; what comes back is a copy.
    axes
        Spatial axes that are mirrored, counted from 0; may be none.
    """
    result = copy.deepcopy(prior)
    result.flip_(axes)
    return result
