"""Segmentations that were made elsewhere, several of one image, as a distribution.

Folds of nnU-Net, runs of any program, label maps of raters: each is a member. They are shown as
they are, equally probable (:class:`FiniteSet`), or a low-rank normal is fitted to their logits,
whose samples lie between and beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_structseg.devices import free_memory
from napari_structseg.distributions import FiniteSet, LogitDistribution, LowRankNormal, Region
from napari_structseg.errors import Cancelled, ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.io.other_programs.members import GivenMaps
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.probabilities import (
    SMALLEST,
    check_probabilities,
    named_classes,
    unnamed_classes,
)
from napari_structseg.prediction.protocol import ImagePredictor, Prediction
from napari_structseg.prediction.specs import MapSpec
from napari_structseg.refine.refinement import refinement_bytes

MembersAs = Literal["members", "normal"]
"""Whether members are shown as they are, or a normal is fitted to them."""

# Variance of every logit beside what the members span: a hundredth of a logit, which decides
# only between classes that are equally probable.
OWN_VARIANCE = 1e-4
_DTYPE = torch.float16
_SINGLE = torch.float32.itemsize
# The matrix that takes the members to their factors is applied to so many numbers at a time.
_AT_ONCE = 1 << 22


class GivenMembers(ImagePredictor):
    """Several segmentations of one image that other programs made.

    The image must lie on their voxel grid.

    Parameters
    ----------
    members
        Where their probabilities are; read when the image is there.
    members_as
        ``"members"``: a :class:`FiniteSet` of them. ``"normal"``: the low-rank normal with mean and
        covariance of their logits, see :func:`fit_normal`.
    device
        Where the distribution will live.
    kind
        What they are, in words.

    Raises
    ------
    ConfigError
        If a normal is asked for of less than two members.
    InputError
        If there are less than 2 classes.
    """

    def __init__(
        self,
        members: Sequence[GivenMaps],
        members_as: MembersAs = "members",
        device: torch.device | None = None,
        kind: str = "members",
    ) -> None:
        _check_number(len(members), members_as)
        first = members[0]
        if first.n_classes < 2:
            raise InputError(
                f"{first.path} must hold a map for each of at least 2 classes, the background "
                f"included, but it holds {first.n_classes}."
            )
        names = next((one.names for one in members if one.names is not None), None)
        classes = unnamed_classes(first.n_classes) if names is None else named_classes(names)
        self.members = tuple(members)
        self.members_as = members_as
        self.device = torch.device("cpu") if device is None else device
        kind = kind if members_as == "members" else f"normal of {kind}"
        self.spec: MapSpec = MapSpec(
            first.path.name, first.geometry.ndim, classes, kind, len(members)
        )

    def take_names(self, spec: ModelSpec) -> None:
        """Take names and colours of a model's classes, if it has as many."""
        if spec.n_classes == self.spec.n_classes:
            self.spec = replace(self.spec, classes=spec.classes)

    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse an image that the members are not of."""
        first = self.members[0]
        if not first.geometry.same_grid(image.geometry):
            differs = "their affine is another one"
            if first.geometry.spatial_shape != image.spatial_shape:
                differs = (
                    f"their shape is {first.geometry.spatial_shape}, not {image.spatial_shape}"
                )
            raise InputError(
                f"The members ({first.path.name} and others) must lie on the voxel grid of the "
                f"image {image.name!r}, but {differs}. Choose the image that they were predicted "
                "from."
            )
        check_memory(
            self.required_bytes(image, refined=refined),
            f"Showing {len(self.members)} members",
            free_memory(self.device),
        )

    def required_bytes(self, image: Image, *, refined: bool = False) -> int:
        """Memory of all members in half precision, of their mean, and of reading one."""
        size = self.spec.n_classes * math.prod(self.members[0].geometry.spatial_shape)
        kept = size * (len(self.members) * _DTYPE.itemsize + 2 * _SINGLE)
        reading = max(one.required_bytes for one in self.members)
        refining = refined * refinement_bytes(
            self.spec.n_classes, self.members[0].geometry.spatial_shape
        )
        return kept + reading + refining

    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """Read one member after the other."""
        self.check(image)
        total = len(self.members)
        shape = (total, self.spec.n_classes, *image.spatial_shape)
        stack = torch.empty(shape, dtype=_DTYPE, device=self.device)
        for done, (kept, member) in enumerate(zip(stack, self.members, strict=True)):
            if cancelled is not None and cancelled():
                raise Cancelled("The run was cancelled.")
            kept.copy_(_log_probabilities(member.read()))
            if done + 1 < total:
                yield Prediction(done + 1, total, None)
        if cancelled is not None and cancelled():
            raise Cancelled("The run was cancelled.")
        yield Prediction(total, total, distribution_of(stack, self.members_as))


def distribution_of(stack: Tensor, members_as: MembersAs) -> LogitDistribution:
    """The distribution of members.

    Parameters
    ----------
    stack
        Log-probabilities, ``(M, C, *spatial)``. For a normal they are overwritten.
    members_as
        Which one.

    Raises
    ------
    ConfigError
        If a normal is asked for of less than two members.
    """
    _check_number(len(stack), members_as)
    return FiniteSet(stack, checked=True) if members_as == "members" else fit_normal(stack)


def fit_normal(stack: Tensor) -> LowRankNormal:
    r"""The normal with mean and covariance of M members' logits, and rank M - 1.

    The factor is :math:`P = H \Lambda / \sqrt{M - 1}` of the logits :math:`\Lambda`, with the
    M - 1 orthonormal rows of Helmert's matrix H, which are orthogonal to a constant. So
    :math:`P^T P` is the unbiased sample covariance of the members, exactly, with one coordinate
    less than if their differences from the mean were the rows. Each logit has a variance of
    ``OWN_VARIANCE`` on its own.

    Parameters
    ----------
    stack
        Log-probabilities, ``(M, C, *spatial)``, M at least 2; overwritten by the factor.

    Returns
    -------
    LowRankNormal
        Its factor has the type of the stack, its mean is float32.
    """
    n_members = len(stack)
    helmert = torch.zeros(n_members - 1, n_members, dtype=torch.float32, device=stack.device)
    for row in range(1, n_members):
        helmert[row - 1, :row] = 1
        helmert[row - 1, row] = -row
        helmert[row - 1] /= math.sqrt(row * (row + 1))
    helmert /= math.sqrt(n_members - 1)
    mean = torch.empty(stack.shape[1:], dtype=torch.float32, device=stack.device)
    flat, flat_mean = stack.flatten(1), mean.flatten()
    for start in range(0, flat.shape[1], _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        values = flat[:, part].float()
        flat_mean[part] = values.mean(dim=0)
        flat[:-1, part] = (helmert @ values).to(stack.dtype)
    own = torch.full((), OWN_VARIANCE, device=stack.device).expand(mean.shape)
    return LowRankNormal(mean, stack[:-1], own, checked=True)


def _check_number(n_members: int, members_as: MembersAs) -> None:
    if members_as == "normal" and n_members < 2:
        raise ConfigError(
            "At least two members were expected for a normal that is fitted to them, but one came. "
            "Give more, or show it as it is."
        )


def _log_probabilities(maps: Image) -> Tensor:
    """Logarithms, ``(C, *spatial)``, float32, normalised: sums are one only nearly."""
    check_probabilities(maps)
    logits = torch.from_numpy(maps.data.astype(np.float32, copy=False)).clamp_(min=SMALLEST).log_()
    return logits.sub_(logits.logsumexp(dim=0, keepdim=True))
