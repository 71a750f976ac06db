"""The metrics of a case by name: which way is better, and when one has no value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_NEITHER = "neither the prediction nor the rater has the class"
_UNMARKED = "the rater did not mark the class"
_ONE_EMPTY = "the prediction or the rater does not have the class"


@dataclass(frozen=True, slots=True)
class Metric:
    """What is to be known about a number beside its definition in docs/evaluation.md.

    Attributes
    ----------
    better
        Which way is better; None where neither is.
    undefined
        When a case, or one of its raters and classes, has no value.
    """

    better: Literal["higher", "lower"] | None
    undefined: str = ""


METRICS = {
    "ged": Metric("lower"),
    "ged_u": Metric("lower", "fewer than two samples or two raters"),
    "sample_diversity": Metric(None),
    "rater_diversity": Metric(None),
    "matched_iou": Metric("higher"),
    "rater_frequency_error": Metric("lower"),
    "dice": Metric("higher", _NEITHER),
    "dice_marked": Metric("higher", _UNMARKED),
    "dice_of_mean_probability": Metric("higher", _NEITHER),
    "dice_marked_of_mean_probability": Metric("higher", _UNMARKED),
    "iou": Metric("higher", _NEITHER),
    "best_dice": Metric("higher", _UNMARKED),
    "better_than_mean": Metric(None, _UNMARKED),
    "sample_dice": Metric("higher", _UNMARKED),
    "worst_dice": Metric("higher", _UNMARKED),
    "volume_coverage": Metric(None),
    "volume_width": Metric("lower", _UNMARKED),
    "volume_crps": Metric("lower"),
    "hd95": Metric("lower", _ONE_EMPTY),
    "assd": Metric("lower", _ONE_EMPTY),
    "nsd": Metric("higher", _NEITHER),
    "brier": Metric("lower"),
    "ece": Metric("lower"),
}
# Those that compare masks or volumes of one class, and so have a value for each class as well.
OF_EACH_CLASS = frozenset(
    {
        *("dice", "dice_marked", "dice_of_mean_probability", "dice_marked_of_mean_probability"),
        *("iou", "best_dice", "better_than_mean", "sample_dice", "worst_dice"),
        *("volume_coverage", "volume_width", "volume_crps", "hd95", "assd", "nsd"),
    }
)
_AT_A_COUNT = re.compile(r"ged_\d+")


def metric_of(name: str) -> Metric:
    """The metric behind a name, which may end in a number of samples or in a class.

    Parameters
    ----------
    name
        For example ``ged``, ``ged_16``, ``dice: nodule``.

    Raises
    ------
    KeyError
        If there is no such metric.
    """
    base = name.partition(":")[0]
    return METRICS["ged" if _AT_A_COUNT.fullmatch(base) else base]
