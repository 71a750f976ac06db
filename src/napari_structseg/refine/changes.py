"""Which changes of labels are marked over the segmentation."""

from __future__ import annotations

from enum import StrEnum


class Changes(StrEnum):
    """What the labels of the iteration shown are compared with."""

    NONE = "none"
    START = "start"
    PREVIOUS = "previous"
