"""What of calibration and ranges still holds for tuned weights.

A calibration was fitted to the samples of the old weights, and so were the ranges of volumes,
entropy and brightness of classes: they are dropped, and can be made again with ``structseg
calibrate``. What the image alone says, its intensities and how much of it touches the edge, no
weights have a say in. The tuned model serves what the model served, and the corrected cases.
"""

from __future__ import annotations

from collections.abc import Sequence

from napari_structseg.image import Image
from napari_structseg.models import DomainSpec, ModelSpec
from napari_structseg.models.domain_spec import StatisticName
from napari_structseg.prediction.domain_statistics import QUANTILES, statistics_of_image

OF_IMAGE: frozenset[StatisticName] = frozenset({*QUANTILES, "data at the edge"})
"""Statistics that no model has a say in."""

_AND_CORRECTED = "; corrected cases"
_LONGEST = 200


def dropped(spec: ModelSpec) -> tuple[str, ...]:
    """What fine-tuning takes away from a model, in words; empty: nothing."""
    found = []
    if spec.calibration is not None:
        found.append("the calibration")
    names = {one.name for one in spec.domain.statistics} if spec.domain is not None else set()
    if names - OF_IMAGE:
        found.append("the ranges of what it segments")
    return tuple(found)


def dropped_in_words(spec: ModelSpec) -> str:
    """The same as a sentence that says what to do; empty: nothing is dropped."""
    names = dropped(spec)
    if not names:
        return ""
    return (
        f"New weights go without {' and '.join(names)}, which were fitted to the old ones: make "
        "them again with structseg calibrate."
    )


def still_made_for(spec: ModelSpec, corrected: Sequence[Image]) -> DomainSpec | None:
    """Ranges that the image alone decides, wide enough for the corrected cases.

    Parameters
    ----------
    spec
        Of the model before.
    corrected
        Images of the cases that it learns from.

    Returns
    -------
    DomainSpec or None
        None: the model did not say what it was made for.
    """
    domain = spec.domain
    if domain is None:
        return None
    found = [statistics_of_image(spec, image) for image in corrected]
    kept = []
    for seen in domain.statistics:
        if seen.name not in OF_IMAGE:
            continue
        key = seen.name, seen.of
        values = [one[key] for one in found if key in one]
        update: dict[str, object] = {
            "seen": (min([seen.seen[0], *values]), max([seen.seen[1], *values])),
            "high": max([seen.high, *values]),
        }
        if seen.low is not None:
            update["low"] = min([seen.low, *values])
        kept.append(seen.model_copy(update=update))
    if not kept:
        return None
    data = domain.data.removesuffix(_AND_CORRECTED)[: _LONGEST - len(_AND_CORRECTED)]
    return domain.model_copy(
        update={
            "statistics": tuple(kept),
            "data": data + _AND_CORRECTED,
            "cases": domain.cases + len(corrected),
        }
    )
