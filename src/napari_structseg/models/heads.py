"""Heads: from a backbone's features to the parameters of a distribution over logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_structseg.distributions import Combination
from napari_structseg.models.parameters import LogitParameters

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
# The diagonal starts at e^-1, the factor small: with a large initial spread the Monte Carlo
# likelihood of a whole patch has no useful gradient (see the toy problem).
INITIAL_LOG_DIAGONAL = -1.0
INITIAL_FACTOR_SCALE = 0.1
# Over so many units of the margin, the spread of a voxel fades out.
FADE_WIDTH = 0.5
# exp of more overflows in float32; a variance that large is noise and nothing else.
_LARGEST_LOG_DIAGONAL = 80.0


class PointHead(nn.Module):
    """One 1x1 convolution to logits: the deterministic U-Net."""

    def __init__(self, dimensions: int, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.mean = _CONVOLUTION[dimensions](n_features, n_classes, 1)

    def forward(self, features: Tensor) -> LogitParameters:
        """Map features ``(B, F, *spatial)`` to mean logits."""
        return LogitParameters(self.mean(features))


class StochasticHead(nn.Module):
    """The low-rank normal head of a Stochastic Segmentation Network.

    Three 1x1 convolutions on the rectified features give the mean, the logarithm of the
    diagonal, and the factor: p(eta | x) = N(mu, P P^T + D) with D = exp(.) + epsilon.
    It goes on any backbone that yields features. Monteiro et al., NeurIPS 2020, section 3.

    With a bound, factor and diagonal pass through :func:`bounded_spread` before epsilon is added.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_features
        Channels of the backbone's features.
    n_classes
        Number of classes C, at least 2.
    rank
        Columns R of the factor; 0: it is left out.
    epsilon
        Added to the diagonal.
    bound
        Largest standard deviation of the difference between two logits of a voxel; 0: there is no
        bound, as in the paper.
    certain
        Margin of the mean beyond which a voxel is certain, see :func:`uncertainty_of`; 0: no voxel
        is, as in the paper.
    rectified
        Whether features are rectified first, as in the paper. Not in a head that takes over the
        last layer of a deterministic model, whose mean is then exactly that model's.
    """

    def __init__(
        self,
        dimensions: int,
        n_features: int,
        n_classes: int,
        *,
        rank: int,
        epsilon: float = 1e-5,
        bound: float = 0.0,
        certain: float = 0.0,
        rectified: bool = True,
    ) -> None:
        super().__init__()
        convolution = _CONVOLUTION[dimensions]
        self.n_classes = n_classes
        self.epsilon = epsilon
        self.bound = bound
        self.certain = certain
        self.rectified = rectified
        self.rank = rank
        self.mean: nn.Module = convolution(n_features, n_classes, 1)
        self.log_diagonal = convolution(n_features, n_classes, 1)
        nn.init.zeros_(self.log_diagonal.weight)
        if self.log_diagonal.bias is not None:
            nn.init.constant_(self.log_diagonal.bias, INITIAL_LOG_DIAGONAL)
        self.factor: nn.Module | None = None
        if self.rank:
            self.factor = convolution(n_features, self.rank * n_classes, 1)
            with torch.no_grad():
                self.factor.weight.mul_(INITIAL_FACTOR_SCALE)

    def forward(self, features: Tensor) -> LogitParameters:
        """Map features ``(B, F, *spatial)`` to mean, factor and diagonal.

        The diagonal is computed in float32 even under autocast: ``exp`` in half precision
        overflows at 11.
        """
        if self.rectified:
            features = functional.relu(features)
        return self.around(self.mean(features), features)

    def around(self, mean: Tensor, features: Tensor) -> LogitParameters:
        """The distribution around a mean, with factor and diagonal made of features."""
        log_diagonal = self.log_diagonal(features).float().clamp(max=_LARGEST_LOG_DIAGONAL)
        diagonal = torch.exp(log_diagonal)
        factor = None
        if self.factor is not None:
            flat = self.factor(features)
            factor = flat.unflatten(1, (self.rank, self.n_classes))
        if self.bound:
            factor, diagonal = bounded_spread(factor, diagonal, self.bound)
        if self.certain:
            left = uncertainty_of(mean.detach(), self.certain)
            factor = None if factor is None else factor * left.unsqueeze(1)
            diagonal = diagonal * left.square()
        return LogitParameters(mean, factor, diagonal + self.epsilon)


class SpreadHead(StochasticHead):
    """Factor and diagonal for a mean that another network gives; parameters as its base."""

    def __init__(
        self,
        dimensions: int,
        n_features: int,
        n_classes: int,
        *,
        rank: int,
        epsilon: float = 1e-5,
        bound: float = 0.0,
        certain: float = 0.0,
    ) -> None:
        super().__init__(
            dimensions, n_features, n_classes,
            rank=rank, epsilon=epsilon, bound=bound, certain=certain, rectified=False,
        )  # fmt: skip
        self.mean = nn.Identity()


def bounded_spread(
    factor: Tensor | None, diagonal: Tensor, bound: float
) -> tuple[Tensor | None, Tensor]:
    r"""Scale factor and diagonal of each voxel so that no sample is far from the mean.

    .. math:: P_i \to \frac{P_i}{\sqrt{1 + 2 v_i / \kappa^2}}, \quad
        D_i \to \frac{D_i}{1 + 2 v_i / \kappa^2}, \quad
        v_i = \sum_c \Big( D_{ic} + \sum_r P_{irc}^2 \Big)

    where i is a voxel, c a class and r a column. The variances of a voxel's logits then sum to
    less than :math:`\kappa^2 / 2`, and since :math:`(x - y)^2 \le 2 (x^2 + y^2)` the difference of
    any two of them has a standard deviation below :math:`\kappa`. Where the mean of class a lies
    m above that of class b, a sample has b above a with a probability of at most
    :math:`\Phi(-m / \kappa)`, whatever the features are. What is small against the bound stays
    what it was.

    The likelihood of the paper has no such limit: a set of samples costs next to nothing while
    one of them is good, so that nothing holds the others.

    Parameters
    ----------
    factor
        ``(B, R, C, *spatial)``, or None.
    diagonal
        Variances, ``(B, C, *spatial)``, float32 or better.
    bound
        :math:`\kappa`, above 0.

    Returns
    -------
    factor, diagonal
        Of the same shapes; in the precision of the diagonal.
    """
    variance = diagonal.sum(dim=1, keepdim=True)
    if factor is not None:
        factor = factor.to(diagonal.dtype)
        variance = variance + factor.square().sum(dim=(1, 2)).unsqueeze(1)
    # Not the root of the inverse: its derivative at 0 is infinite.
    shrink = (1 + variance * (2 / bound**2)).rsqrt()
    if factor is not None:
        factor = factor * shrink.unsqueeze(1)
    return factor, diagonal * shrink.square()


def uncertainty_of(mean: Tensor, certain: float) -> Tensor:
    r"""How much of its spread each voxel keeps: 1 where classes are near each other, 0 where not.

    .. math:: u_i = \sigma\big( (c - m_i) / 0.5 \big)

    with the margin m of the mean's largest logit above the next. A bound alone lets a voxel of
    margin m change its class in a share :math:`\Phi(-m / \kappa)` of the samples; where a large
    region that is surely background moves together, that is a share of the samples that is lost.
    The paper's remedy is a region of interest that somebody has to draw (Monteiro et al., NeurIPS
    2020, section 3.2); this one follows from the mean. The likelihood does not reach the mean by
    this way, or it would make voxels certain only to hold them.

    Parameters
    ----------
    mean
        Logits, ``(B, C, *spatial)``.
    certain
        c, above 0.

    Returns
    -------
    Tensor
        ``(B, 1, *spatial)``, float32, from 0 to 1.
    """
    largest = mean.float().topk(2, dim=1).values
    margin = largest[:, :1] - largest[:, 1:]
    return torch.sigmoid((certain - margin) / FADE_WIDTH)


class MultiHead(nn.Module):
    """M heads on the same features, each a hypothesis of its own: the M-Heads baseline.

    Kohl et al., *A Probabilistic U-Net*, NeurIPS 2018, after Rupprecht et al., ICCV 2017.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_features
        Channels of the backbone's features.
    n_classes
        Number of classes C.
    n_heads
        Number of heads M.
    """

    def __init__(self, dimensions: int, n_features: int, n_classes: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.mean = _CONVOLUTION[dimensions](n_features, n_heads * n_classes, 1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of every head, ``(B, M, C, *spatial)``."""
        logits: Tensor = self.mean(features)
        members: Tensor = logits.unflatten(1, (self.n_heads, -1))
        return members

    def forward(self, features: Tensor) -> LogitParameters:
        """Map features ``(B, F, *spatial)`` to the members of a finite set."""
        return LogitParameters.of_members(self.logits(features).unbind(1))


class LatentHead(nn.Module):
    """Three 1x1 layers that combine features and a latent vector: f_comb.

    The first is split into a part of the features, which all samples of an image share, and one
    of the latents, which is a number a channel. Kohl et al., NeurIPS 2018, section 2.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_features
        Channels of the backbone's features, and of the two inner layers.
    n_classes
        Number of classes C.
    n_latents
        Dimensions L of the latent space.
    """

    def __init__(self, dimensions: int, n_features: int, n_classes: int, n_latents: int) -> None:
        super().__init__()
        convolution = _CONVOLUTION[dimensions]
        self.first = convolution(n_features, n_features, 1)
        self.latent = nn.Linear(n_latents, n_features, bias=False)
        self.second = convolution(n_features, n_features, 1)
        self.mean = convolution(n_features, n_classes, 1)

    def forward(self, first: Tensor, z: Tensor) -> Tensor:
        """Logits ``(B, C, *spatial)``.

        Parameters
        ----------
        first
            ``self.first(features)``, ``(B, H, *spatial)``.
        z
            ``(B, L)``.
        """
        bias = self.latent(z)
        hidden = functional.relu(first + bias.reshape(*bias.shape, *[1] * (first.ndim - 2)))
        logits: Tensor = self.mean(functional.relu(self.second(hidden)))
        return logits

    def combination(self) -> Combination:
        """The layers after the first one's features, as matrices without gradients."""
        own = {name: one.detach().float() for name, one in self.named_parameters()}
        return Combination(
            latent=own["latent.weight"],
            second=own["second.weight"].flatten(1),
            second_bias=own["second.bias"],
            last=own["mean.weight"].flatten(1),
            last_bias=own["mean.bias"],
        )
