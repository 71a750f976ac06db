"""Test-time augmentation: a distribution for a model that has none of its own.

The image is changed in ways that should not matter, the deterministic model is applied to each,
and what it says is changed back: members, or the normal that is fitted to them. What they spread
over is how the model reacts to such changes, not what it has learned of how raters differ
(Wang et al., *Aleatoric uncertainty estimation with test-time augmentation*, Neurocomputing 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from napari_structseg.devices import free_memory
from napari_structseg.distributions import Region
from napari_structseg.errors import Cancelled, ConfigError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.given import MembersAs, distribution_of
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.protocol import ImagePredictor, Prediction
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.refinement import refinement_bytes

Augmentation = Literal["flips", "intensity", "rotations"]
"""What an image is changed by."""

PASSES = 8
PASSES_MAX = 64
_DTYPE = torch.float16
_SINGLE = torch.float32.itemsize
# A gamma up to so much, or its inverse; degrees, either way.
_GAMMA, _DEGREES = 1.4, 10.0
# The same changes for every image: a prediction is the same whenever it is made.
_SEED = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an image, and back.

    Attributes
    ----------
    flips
        Axes of the image that are turned round.
    gamma
        Exponent of intensities, from 0 to 1 between the darkest and the brightest.
    plane
        Two axes of the image that are turned.
    angle
        By so much, in radians.
    """

    flips: tuple[int, ...] = ()
    gamma: float = 1.0
    plane: tuple[int, int] = (0, 1)
    angle: float = 0.0

    def of_image(self, image: Image, ends: tuple[float, float] | None) -> Image:
        """The changed image on the same grid.

        Parameters
        ----------
        image
            To be changed.
        ends
            Intensities between which gamma works; None: each channel's own.
        """
        data: npt.NDArray[Any] = image.data
        if self.gamma != 1:
            data = np.stack([_with_gamma(channel, self.gamma, ends) for channel in data])
        if self.angle:
            data = self._turned(data.astype(np.float32), image.spacing, self.angle)
        if self.flips:
            data = np.ascontiguousarray(np.flip(data, tuple(1 + axis for axis in self.flips)))
        return replace(image, data=data, checked=True)

    def back(self, logits: Tensor, spacing: Sequence[float]) -> Tensor:
        """Logits of the changed image, ``(C, *spatial)``, on the voxels of the image."""
        if self.flips:
            logits = logits.flip([1 + axis for axis in self.flips])
        if self.angle:
            turned = self._turned(logits.cpu().numpy(), spacing, -self.angle)
            logits = torch.from_numpy(turned).to(logits.device)
        return logits

    def _turned(
        self, maps: npt.NDArray[np.float32], spacing: Sequence[float], angle: float
    ) -> npt.NDArray[np.float32]:
        """Maps turned about the middle of the image, in mm."""
        steps = np.asarray(spacing)
        turn = np.eye(len(steps))
        first, second = self.plane
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn * steps / steps[:, np.newaxis]
        middle = (np.array(maps.shape[1:]) - 1) / 2
        offset = middle - matrix @ middle
        turned = [affine_transform(one, matrix, offset, order=1, mode="nearest") for one in maps]
        return np.stack(turned)


def changes(kinds: Sequence[Augmentation], n_passes: int, ndim: int) -> list[Change]:
    """The changes of a prediction; the first one is none.

    Parameters
    ----------
    kinds
        What may be changed. Flips go through all sets of axes in turn; a gamma between 1 / 1.4 and
        1.4 and an angle of up to 10 degrees in a plane of two axes are drawn.
    n_passes
        How many.
    ndim
        Axes of the image.
    """
    rng = np.random.default_rng(_SEED)
    made = [Change()]
    for number in range(1, n_passes):
        gamma = math.exp(rng.uniform(-1, 1) * math.log(_GAMMA))
        angle = math.radians(rng.uniform(-1, 1) * _DEGREES)
        first, second = sorted(rng.permutation(ndim)[:2].tolist())
        made.append(
            Change(
                tuple(axis for axis in range(ndim) if "flips" in kinds and number >> axis & 1),
                gamma if "intensity" in kinds else 1.0,
                (first, second),
                angle if "rotations" in kinds else 0.0,
            )
        )
    return made


class AugmentedPredictor(ImagePredictor):
    """A deterministic model under test-time augmentation.

    Parameters
    ----------
    predictor
        Applies the model.
    kinds
        What the image is changed by, at least one.
    n_passes
        How many times the model is applied, the unchanged image first; 2 to 64. Flips alone have 4
        sets of axes in 2-D and 8 in 3-D, and no more passes than these.
    members_as
        Members as they are, or a normal that is fitted to them.

    Raises
    ------
    ConfigError
        If the model has a distribution of its own, or a number is out of range.
    """

    def __init__(
        self,
        predictor: Predictor,
        kinds: Sequence[Augmentation],
        n_passes: int = PASSES,
        members_as: MembersAs = "members",
    ) -> None:
        spec = predictor.spec
        if spec.kind != "point":
            raise ConfigError(
                f"A deterministic model was expected for test-time augmentation, but {spec.name!r} "
                f"has a distribution of its own ({spec.kind}). Leave --augment out."
            )
        if not kinds or not 2 <= n_passes <= PASSES_MAX:
            raise ConfigError(
                f"From 2 to {PASSES_MAX} passes of test-time augmentation were expected, but "
                f"{n_passes} came."
            )
        if set(kinds) == {"flips"}:
            n_passes = min(n_passes, 2**spec.dimensions)
        self._base = predictor
        self._kinds = tuple(dict.fromkeys(kinds))
        self._n_passes = n_passes
        self._members_as: MembersAs = members_as
        self.device = predictor.device
        self.precision = predictor.precision
        title = f"{spec.name}, test-time augmentation ({', '.join(self._kinds)}; {n_passes} passes)"
        self.spec: ModelSpec = spec.model_copy(update={"name": title})

    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse what the model refuses, and what does not fit into memory."""
        self._base.check(image)
        check_memory(
            self.required_bytes(image, refined=refined),
            f"Running {self.spec.name!r} on {image.name!r}",
            free_memory(self.device),
        )

    def required_bytes(self, image: Image, *, refined: bool = False) -> int:
        """Memory of a pass, of all members in half precision, and of the changed image."""
        size = self.spec.n_classes * math.prod(image.spatial_shape)
        kept = size * (self._n_passes * _DTYPE.itemsize + 4 * _SINGLE)
        refining = refined * refinement_bytes(self.spec.n_classes, image.spatial_shape)
        return self._base.required_bytes(image) + kept + 2 * image.data.size * _SINGLE + refining

    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """One pass after the other; nothing is shown before the last."""
        self.check(image)
        intensity = self.spec.intensity
        ends = (intensity.low, intensity.high) if intensity.kind == "window" else None
        shape = (self._n_passes, self.spec.n_classes, *image.spatial_shape)
        stack = torch.empty(shape, dtype=_DTYPE, device=self.device)
        made = changes(self._kinds, self._n_passes, image.ndim)
        for index, (kept, change) in enumerate(zip(stack, made, strict=True)):
            for step in self._base.stream(change.of_image(image, ends), None, cancelled):
                if step.complete and step.distribution is not None:
                    logits = change.back(step.distribution.mean(), image.spacing)
                    kept.copy_(torch.log_softmax(logits, dim=0))
                done, total = index * step.total + step.done, self._n_passes * step.total
                if cancelled is not None and cancelled():
                    raise Cancelled("The run was cancelled.")
                if done < total:
                    yield Prediction(done, total, None)
        yield Prediction(total, total, distribution_of(stack, self._members_as))

    def prior(self, image: Image) -> MarkovPrior | None:
        """The model's own."""
        return self._base.prior(image)


def _with_gamma(
    channel: npt.NDArray[Any], gamma: float, ends: tuple[float, float] | None
) -> npt.NDArray[np.float32]:
    """Intensities with an exponent; 0 stays 0 where it says that there is no data."""
    values = channel.astype(np.float32)
    low, high = (float(values.min()), float(values.max())) if ends is None else ends
    if high <= low:
        return values
    inside = (values >= low) & (values <= high)
    if ends is None:
        inside &= values != 0
    scaled = (values[inside] - low) / (high - low)
    values[inside] = low + (high - low) * scaled**gamma
    return values
