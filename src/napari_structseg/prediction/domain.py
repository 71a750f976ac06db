"""Whether an image is one of those that a model was made for."""

from __future__ import annotations

from collections.abc import Mapping

from napari_structseg.distributions import DomainCheck, Finding, LogitDistribution, Region
from napari_structseg.image import Image
from napari_structseg.models import ModelSpec
from napari_structseg.models.domain_spec import SeenSpec, StatisticName
from napari_structseg.prediction.domain_statistics import Key, statistics_of
from napari_structseg.prediction.specs import Spec

_WORDS: dict[StatisticName, str] = {
    "dark end": "darkest intensities{of}",
    "middle": "middle of the intensities{of}",
    "bright end": "brightest intensities{of}",
    "brightness": "brightness of {name}",
    "data at the edge": "voxels at the image's edge that are not 0:",
    "tissue at the edge": "voxels at the image's edge that are segmented:",
    "volume": "{name}",
    "entropy": "mean entropy of what is segmented",
}


def check_domain(
    spec: Spec, image: Image, distribution: LogitDistribution, region: Region | None = None
) -> DomainCheck | None:
    """Compare an image, and what a model says about it, with what the model was made for.

    Parameters
    ----------
    spec
        Of the model that gave the distribution.
    image
        What it was applied to.
    distribution
        Complete, on the grid of the region.
    region
        The part of the image that the distribution is of; None: all of it.

    Returns
    -------
    check
        What is outside, if anything is; None: the model does not say what it was made for.
    """
    if not isinstance(spec, ModelSpec) or spec.domain is None:
        return None
    return compare(spec, statistics_of(spec, image, distribution, region))


def compare(spec: ModelSpec, found: Mapping[Key, float]) -> DomainCheck:
    """Compare statistics of an image with those that a model was made for.

    Parameters
    ----------
    spec
        Of the model.
    found
        See :func:`statistics_of`. A statistic that the image does not have is not compared.
    """
    known = () if spec.domain is None else spec.domain.statistics
    outside = [
        _finding(seen, found[seen.name, seen.of])
        for seen in known
        if (seen.name, seen.of) in found and _excess(seen, found[seen.name, seen.of]) > 0
    ]
    outside.sort(key=lambda finding: -finding.excess)
    return DomainCheck(spec.name, tuple(outside))


def _excess(seen: SeenSpec, value: float) -> float:
    """How far a value is outside, in widths of what is accepted; at most 0: it is not."""
    low = -float("inf") if seen.low is None else seen.low
    width = seen.high - (min(seen.seen) if seen.low is None else seen.low)
    return max(value - seen.high, low - value) / max(width, 1e-9)


def _finding(seen: SeenSpec, value: float) -> Finding:
    words = _WORDS[seen.name].format(name=seen.of, of=f" of {seen.of}" if seen.of else "")
    low, high = (_number(seen, one) for one in seen.seen)
    ends = low if low == high else f"{low} to {high}"
    unit = f" {seen.unit}" if seen.unit else ""
    return Finding(words, f"{_number(seen, value)}{unit}", f"{ends}{unit}", _excess(seen, value))


def _number(seen: SeenSpec, value: float) -> str:
    """A number as it is read, without its unit."""
    if seen.unit == "%":
        return f"{100 * value:.0f}" if value >= 0.1 else f"{100 * value:.1f}"
    if seen.unit in {"mL", "mm²"}:
        return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
    return f"{value:.2f}"
