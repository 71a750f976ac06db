"""The layers that turn features and a latent vector into logits.

Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_structseg.distributions.one_thread import chunks, one_thread, team

# Voxels that are decoded at a time, and how many such chunks are worth a thread.
_CHUNK = 8192
_CHUNKS_PER_THREAD = 16


@dataclass(frozen=True, slots=True)
class Combination:
    """The three 1x1 layers that combine features and latents, as matrices.

    The first is split: W [f; z] + b = (W_f f + b) + W_z z. Its part of the features is computed
    once for an image; that of the latents is one number a channel.

    Attributes
    ----------
    latent
        W_z, ``(H, L)``.
    second, second_bias
        Of the second layer, ``(H2, H)`` and ``(H2,)``.
    last, last_bias
        Of the layer that gives logits, ``(C, H2)`` and ``(C,)``.
    """

    latent: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor

    @property
    def widest(self) -> int:
        """Channels of the widest layer."""
        return max(len(self.latent), len(self.second), len(self.last))

    def logits(self, first: Tensor, z: Tensor) -> Tensor:
        """Logits of some voxels.

        Parameters
        ----------
        first
            W_f f + b, ``(H, voxels)``.
        z
            ``(L,)``.

        Returns
        -------
        Tensor
            ``(C, voxels)``, float32.
        """
        hidden = torch.add(first, (self.latent @ z)[:, None]).relu_()
        hidden = torch.addmm(self.second_bias[:, None], self.second, hidden).relu_()
        return torch.addmm(self.last_bias[:, None], self.last, hidden)

    def jacobian(self, first: Tensor, z: Tensor) -> Tensor:
        """Derivative of the class probabilities with respect to the latents.

        Parameters
        ----------
        first
            W_f f + b, ``(H, voxels)``.
        z
            Where, ``(L,)``.

        Returns
        -------
        Tensor
            ``(C, voxels, L)``.
        """
        inner = first + (self.latent @ z)[:, None]
        outer = torch.addmm(self.second_bias[:, None], self.second, inner.relu())
        slope = (inner > 0)[..., None] * self.latent[:, None]
        slope = (outer > 0)[..., None] * torch.tensordot(self.second, slope, dims=1)
        slope = torch.tensordot(self.last, slope, dims=1)
        logits = torch.addmm(self.last_bias[:, None], self.last, outer.relu())
        probability = logits.softmax(dim=0)[..., None]
        jacobian: Tensor = probability * (slope - (probability * slope).sum(dim=0))
        return jacobian


def decode(combination: Combination, first: Tensor, latents: list[Tensor]) -> Tensor:
    """Logits at several latent vectors.

    Parameters
    ----------
    combination
        The layers after the features' part of the first one.
    first
        That part, ``(H, *spatial)``.
    latents
        N vectors ``(L,)``.

    Returns
    -------
    Tensor
        ``(N, C, *spatial)``, float32.
    """
    n_classes = len(combination.last)
    result = torch.empty((len(latents), n_classes, *first.shape[1:]), device=first.device)
    flat, logits = first.flatten(1), result.flatten(2)

    # Threads have an inference mode of their own.
    @torch.inference_mode()
    def decode_part(part: slice) -> None:
        voxels = flat[:, part].float()
        for row, z in zip(logits, latents, strict=True):
            row[:, part] = combination.logits(voxels, z)

    # Every layer of a chunk of voxels stays in the cache, for all samples.
    parts = list(chunks(flat.shape[1], first.device, _CHUNK))
    n_threads = min(torch.get_num_threads(), len(parts) * len(latents) // _CHUNKS_PER_THREAD)
    if first.device.type != "cpu":
        decode_part(slice(None))
    elif n_threads > 1:
        # Each thread goes its own way: torch's would wait for each other after every layer.
        with team(n_threads) as threads:
            list(threads.map(decode_part, parts))
    else:
        with one_thread():
            for part in parts:
                decode_part(part)
    return result
