r"""Algorithm 2: a network and a CRF learn together, batch by batch.

Each batch is a program of its own: its constraints are found by cutting planes, and the network
takes a step along :math:`-d\gamma`. At the end of an epoch the labellings of all its batches are
merged, and the weights of the CRF are those of one program for all of them, under the network of
that moment. Larsson, Alvén and Kahl, SCIA 2017.

The paper ends an epoch with the merged program; it knows only constraints that were found with
other weights and earlier networks. Here cutting planes go on from it, with as many rounds as
configured. With a network that does not learn this is Algorithm 1: piecewise learning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.data.cases import UNREVIEWED
from napari_structseg.errors import InputError
from napari_structseg.memory import check_memory
from napari_structseg.priors.contrast import CRFSpec, edges_of, offsets_of
from napari_structseg.training.max_margin.active_set import FloatArray
from napari_structseg.training.max_margin.cutting_planes import Learned, learn
from napari_structseg.training.max_margin.example import CutExample, spec_of
from napari_structseg.training.max_margin.gradient import logit_gradients
from napari_structseg.training.max_margin.working_set import BoolArray, WorkingSet
from napari_structseg.training.objectives.losses import background_outside
from napari_structseg.training.sections import MaxMarginConfig

logger = logging.getLogger(__name__)

Patch = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]
Place = tuple[int, int]
"""A step, and the number of a patch in its batch."""

# What an example keeps of each voxel: two costs, and of each pair its contrast, as float32.
_COST_BYTES, _PAIR_BYTES = 8, 4


class MaxMargin:
    """Learns the weights of a CRF beside those of a network, or after them.

    Parameters
    ----------
    config
        What the configuration says of it.
    spacing
        mm between voxels of a patch; None: all the same.
    zero_is_background
        Voxels that are 0 in every channel are background with certainty.

    Attributes
    ----------
    weights
        Of the last epoch's end, ``(3,)``; None before the first.
    guess
        Of the last batch; where the next one begins to look.
    found
        The labellings of each patch of this epoch, as bits ``(K, bytes)``.
    """

    def __init__(
        self,
        config: MaxMarginConfig,
        *,
        spacing: Sequence[float] | None = None,
        zero_is_background: bool = False,
    ) -> None:
        self.config = config
        self._spacing = spacing
        self._zero_is_background = zero_is_background
        self.weights: FloatArray | None = None
        self.guess: FloatArray | None = None
        self.found: dict[Place, npt.NDArray[np.uint8]] = {}

    @property
    def crf(self) -> CRFSpec | None:
        """The CRF that was learned; None before the first epoch's end."""
        return None if self.weights is None else spec_of(self.weights, self._like)

    @property
    def _like(self) -> CRFSpec:
        return CRFSpec(scale=self.config.scale, neighbours=self.config.neighbours)

    def loss(self, logits: Tensor, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """Gamma of a batch, with its gradient by the logits.

        Parameters
        ----------
        logits
            ``(B, 2, *spatial)``.
        images, labels
            ``(B, C, *spatial)`` and ``(B, *spatial)``.
        step
            Which, from 0.

        Returns
        -------
        Tensor
            Scalar, in voxels per image: with C = 1, about the mean slack.
        """
        logits, truths = self._masked(logits.float(), images, labels)
        examples = self._examples(logits, images, truths)
        learned = self._learn(examples, guess=self.guess)
        self.guess = learned.weights
        for number in range(len(examples)):
            self.found[step, number] = learned.working.packed(number)
        gradients = np.stack(logit_gradients(examples, learned)).astype(np.float32)
        gradient = torch.from_numpy(gradients).to(logits.device)
        # The value is gamma, and backwards comes what the envelope theorem says.
        linear = (gradient * (logits[:, 1] - logits[:, 0])).sum()
        return linear - linear.detach() + learned.optimum.value

    def end_epoch(self, logits_of: Callable[[Tensor], Tensor], patches: Iterator[Patch]) -> Learned:
        """Merge the labellings of an epoch, and learn the weights of the CRF from them.

        Parameters
        ----------
        logits_of
            The network of the moment: ``(1, C, *spatial)`` to ``(1, 2, *spatial)``.
        patches
            Those of :attr:`found`, in its order.

        Raises
        ------
        MemoryLimitError
            If all of them do not fit.
        """
        examples: list[CutExample] = []
        for image, label in patches:
            if not examples:
                self._check_memory(label)
            images, labels = torch.from_numpy(image)[None], torch.from_numpy(label)[None]
            with torch.inference_mode():
                logits, truths = self._masked(logits_of(images).float().cpu(), images, labels)
            examples += self._examples(logits, images, truths)
        working = WorkingSet([one.truth for one in examples])
        for number, packed in enumerate(self.found.values()):
            working.add_packed(number, packed)
        learned = self._learn(examples, working=working, rounds=self.config.rounds)
        self.weights = learned.weights
        self.found = {}
        logger.info(
            "CRF of %d patches and %d labellings: weights %s, gamma %.4g, violation %.2g",
            len(examples),
            len(learned.working),
            np.array2string(learned.weights, precision=4),
            learned.optimum.value,
            learned.violation,
        )
        if not learned.weights[0] > 0:
            logger.warning(
                "The CRF has no weight for the network: nothing it says agrees with the labels. "
                "Train the network first."
            )
        return learned

    def _learn(
        self,
        examples: Sequence[CutExample],
        *,
        working: WorkingSet | None = None,
        guess: FloatArray | None = None,
        rounds: int | None = None,
    ) -> Learned:
        config = self.config
        return learn(
            examples,
            cost=config.cost,
            tolerance=config.tolerance,
            working=working,
            guess=guess,
            rounds=rounds,
        )

    def _masked(
        self, logits: Tensor, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, list[BoolArray]]:
        """Logits and ground truth where there is data; elsewhere background."""
        n_unknown = int((labels == UNREVIEWED).sum())
        if n_unknown:
            # The margin is kept from the energy of the truth, which pairs of them are part of.
            raise InputError(
                f"A CRF is learned from images in which every voxel has a class, but {n_unknown:,} "
                "voxels of a batch are not reviewed. Review whole images, or fine-tune the model "
                "with structseg finetune, which keeps its CRF as it is."
            )
        truth = labels == 1
        if self._zero_is_background:
            mask = (images != 0).any(dim=1)
            logits, truth = background_outside(logits, mask), truth & mask
        return logits, list(truth.cpu().numpy())

    def _examples(
        self, logits: Tensor, images: Tensor, truths: Sequence[BoolArray]
    ) -> list[CutExample]:
        config = self.config
        return [
            CutExample(
                logit,
                truth,
                edges_of(image, spacing=self._spacing, neighbours=config.neighbours),
                config.scale,
            )
            for logit, image, truth in zip(
                logits.detach().cpu().numpy(), images.cpu().numpy(), truths, strict=True
            )
        ]

    def _check_memory(self, label: npt.NDArray[np.uint8]) -> None:
        n_pairs = len(offsets_of(label.ndim, self.config.neighbours))
        needed = len(self.found) * label.size * (_COST_BYTES + n_pairs * _PAIR_BYTES)
        check_memory(needed, f"An epoch of {len(self.found)} patches, all at once,")
