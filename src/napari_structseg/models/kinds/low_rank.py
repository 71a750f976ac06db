"""The Stochastic Segmentation Network.

Monteiro et al., *Stochastic Segmentation Networks*, NeurIPS 2020.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from napari_structseg.models.backbone_spec import Frame, PositiveInt
from napari_structseg.models.head_spec import Family, HeadSpec, Loss
from napari_structseg.models.heads import StochasticHead
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior

_LEAST_BOUND, _LARGEST_BOUND = 0.01, 1000.0


class LowRankSpec(HeadSpec):
    """A low-rank normal over logits."""

    family: ClassVar[Family] = "normal"
    loss: ClassVar[Loss] = "likelihood"
    learns_with_prior: ClassVar[bool] = True

    kind: Literal["low_rank"] = Field("low_rank", description="SSN (Monteiro 2020).")
    rank: PositiveInt = Field(10, description="Rank of the covariance factor.")
    diagonal_only: bool = Field(
        False, description="Drop the factor: the independent-voxel baseline of SSN."
    )
    epsilon: Annotated[float, Field(gt=0)] = Field(
        1e-5, description="Added to the diagonal of the covariance."
    )
    bound: float = Field(
        0.0,
        # Files of earlier versions say nothing of it, and have none.
        description="Largest standard deviation of the difference between two logits of a voxel; "
        "0: no bound.",
    )
    certain: Annotated[float, Field(ge=0, le=_LARGEST_BOUND)] = Field(
        0.0,
        description="How far the mean's largest logit lies above the next where a voxel begins to "
        "be certain, and its spread fades out; 0: nowhere.",
    )
    rectified: bool = Field(
        True,
        description="Rectify the features first; false in a head that fine-tuning has put on a "
        "deterministic model, so that its mean is that of the model.",
    )

    @field_validator("bound")
    @classmethod
    def _bound_is_of_use(cls, bound: float) -> float:
        # Nothing in float32 is left of less, and more bounds nothing.
        if bound and not _LEAST_BOUND <= bound <= _LARGEST_BOUND:
            raise ValueError(
                f"bound must be 0 (none) or lie between {_LEAST_BOUND:g} and "
                f"{_LARGEST_BOUND:g}, got {bound:g}"
            )
        return bound

    @property
    def title(self) -> str:
        """The kind in words."""
        rank = "diagonal" if self.diagonal_only else f"rank {self.rank}"
        return f"Stochastic Segmentation Network ({rank})"

    @property
    def factor_rank(self) -> int:
        """Columns of the covariance factor; 0 without one."""
        return 0 if self.diagonal_only else self.rank

    @property
    def least_variance(self) -> float:
        """Epsilon."""
        return self.epsilon

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """A U-Net and three 1x1 convolutions."""
        backbone = UNet(frame.dimensions, frame.n_channels, frame.backbone)
        head = StochasticHead(
            frame.dimensions,
            backbone.n_features,
            frame.n_classes,
            rank=self.factor_rank,
            epsilon=self.epsilon,
            bound=self.bound,
            certain=self.certain,
            rectified=self.rectified,
        )
        return SegmentationNetwork(backbone, head, prior)
