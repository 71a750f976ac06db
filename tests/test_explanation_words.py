"""What the dock says about strokes that a model cannot explain."""

from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.distributions.conditioning.explanation import Explanation
from napari_structseg.widgets.panels.strokes_panel import in_words


@pytest.mark.parametrize(
    ("explained", "possible", "says"),
    [
        (4, 4, "explains all of your strokes"),
        # A single stroke: there is no other one that it could be torn by.
        (1, 4, "cannot make 3 of 4 voxels agree with the rest"),
        (1, 1, "cannot explain 3 of 4 voxels"),
        (1, 2, "cannot explain 3 of 4 voxels"),
    ],
)
def test_the_sentence_says_why(explained: int, possible: int, says: str) -> None:
    place = np.arange(4)
    said, tip = in_words(Explanation(place < explained, place < possible))
    assert says in said
    assert "other strokes" not in said
    assert not tip


def test_effective_numbers_are_a_hint() -> None:
    yes = np.ones(2, bool)
    _, tip = in_words(Explanation(yes, yes, effective=120.4, scored=384))
    assert "120 of 384" in tip
