"""What is said of single voxels, as Gaussian observations of their logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.said import Said, softmax


@dataclass(frozen=True, slots=True)
class Sites:
    r"""Gaussian observations of the logits of some voxels, in information form.

    The likelihood of voxel i is :math:`\exp(b_i^T \eta_i - \eta_i^T W_i \eta_i / 2)` with
    :math:`W = k (\mathrm{diag}(p) - p p^T)`: the second derivative of a softmax with probabilities
    p, counted k times. W has no say in what all logits of a voxel have in common, so this is an
    observation of their margins, the differences between two logits. With p = 1/C every margin is
    observed with the variance 2 C / k.

    Everything is in closed form: no matrix of a voxel is built or factorised.

    Attributes
    ----------
    p
        ``(n, C)``, positive or 0, summing to one over classes.
    k
        ``(n)``, positive.
    b
        ``(n, C)``.
    """

    p: Tensor
    k: Tensor
    b: Tensor

    @classmethod
    def softmax(cls, logits: Tensor, said: Said, sharpness: float) -> Sites:
        """The second-order expansion of a softmax likelihood around some logits.

        See Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, section 3.5.
        """
        p = softmax(sharpness * logits)
        k = said.weight * sharpness**2
        gradient = (said.weight * sharpness)[..., None] * (said.targets - p)
        unsolved = cls(p, k, gradient)
        return cls(p, k, unsolved.curvature(logits) + gradient)

    @classmethod
    def margins(cls, labels: Tensor, n_classes: int, margin: float, variance: float) -> Sites:
        """The margin of each label over every other class is ``margin``, with a noise.

        Parameters
        ----------
        labels
            ``(n)``.
        n_classes
            Number of classes C.
        margin, variance
            Of each difference between the label's logit and another one.
        """
        target = torch.zeros((*labels.shape, n_classes), dtype=torch.float64)
        target.scatter_(-1, labels[..., None], margin)
        p = torch.full_like(target, 1 / n_classes)
        k = torch.full(labels.shape, 2 * n_classes / variance, dtype=torch.float64)
        return cls(p, k, cls(p, k, target).curvature(target))

    def curvature(self, x: Tensor) -> Tensor:
        """W x of each voxel, ``(n, C)``."""
        px = self.p * x
        return self.k[..., None] * (px - self.p * px.sum(dim=-1, keepdim=True))

    def root(self, xi: Tensor) -> Tensor:
        """W^(1/2) xi: of standard normal numbers it makes noise with the covariance W."""
        root = self.p.sqrt()
        inner = (root * xi).sum(dim=-1, keepdim=True)
        return self.k.sqrt()[..., None] * (root * xi - self.p * inner)

    def damped(self, variance: Tensor) -> Damped:
        """These sites where each logit has independent noise of its own, too."""
        return Damped(self, 1 + self.k[..., None] * self.p * variance, variance)


@dataclass(frozen=True, slots=True)
class Damped:
    """Sites beside a diagonal D: what ``(I + W D)^-1`` and ``(W^-1 + D)^-1`` do to vectors.

    Both stay finite where W goes to 0. With A = I + k diag(p) D, W D is k diag(p) D minus a matrix
    of rank one, so that the inverses follow from the formula of Sherman and Morrison.

    Attributes
    ----------
    sites
        W.
    a
        Diagonal of A, ``(n, C)``.
    variance
        Diagonal of D, ``(n, C)``.
    """

    sites: Sites
    a: Tensor
    variance: Tensor

    def solve(self, x: Tensor) -> Tensor:
        """(I + W D)^-1 x of each voxel, ``(n, C)``."""
        scaled = self.sites.p / self.a
        inner = (self.variance * self.sites.p * x / self.a).sum(dim=-1, keepdim=True)
        total = scaled.sum(dim=-1, keepdim=True)
        return x / self.a + self.sites.k[..., None] * scaled * inner / total

    def precision(self, x: Tensor) -> Tensor:
        """(W^-1 + D)^-1 x = (I + W D)^-1 W x of each voxel, ``(n, C)``."""
        scaled = self.sites.p / self.a
        centre = (scaled * x).sum(dim=-1, keepdim=True) / scaled.sum(dim=-1, keepdim=True)
        return self.sites.k[..., None] * scaled * (x - centre)

    def gram(self, x: Tensor) -> Tensor:
        """X^T (W^-1 + D)^-1 X, of columns that are rows here: ``(R, C, n)`` to ``(R, R)``."""
        weight = (self.sites.k[:, None] * self.sites.p / self.a).T
        weighted = x * weight
        centre = weighted.sum(dim=1)
        rows = weighted.flatten(1) @ x.flatten(1).T
        return rows - (centre / weight.sum(dim=0)) @ centre.T
