"""A latent position that an MRF refines: the slice, the volume and its volumes follow it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import Combination, LatentDecoder, LatentNormal
from napari_structseg.priors import NetworkPrior, refine
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    Request,
    Result,
    SlabLabels,
    SliceLabels,
    View,
)

SHAPE, N_CLASSES, N_FEATURES, N_LATENTS = (4, 5, 6), 3, 5, 2
VOXEL_ML = 0.5


def make_decoder() -> LatentDecoder:
    generator = torch.Generator().manual_seed(23)

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    combination = Combination(
        latent=drawn(N_FEATURES, N_LATENTS),
        second=drawn(N_FEATURES, N_FEATURES),
        second_bias=drawn(N_FEATURES),
        last=drawn(N_CLASSES, N_FEATURES),
        last_bias=drawn(N_CLASSES),
    )
    prior = LatentNormal(drawn(N_LATENTS), torch.tensor([0.6, 1.3]))
    return LatentDecoder(drawn(N_FEATURES, *SHAPE), combination, prior)


def make_mrf() -> NetworkPrior:
    prior = NetworkPrior(3, N_CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return prior.requires_grad_(False)


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "threaded"])
def test_everything_follows_a_latent_position(synchronous: bool) -> None:
    decoder, mrf = make_decoder(), make_mrf()
    engine = Engine(decoder, VOXEL_ML, prior=mrf, synchronous=synchronous)
    shown = np.full(SHAPE, 255, np.uint8)
    results: list[Result] = []

    def on_result(result: Result) -> None:
        results.append(result)
        if isinstance(result, SliceLabels | SlabLabels):
            shown[result.region] = result.labels

    engine.result.connect(on_result)
    seen = []
    for position in ((0.0, 0.0), (3.0, -1.0), (-3.0, 2.0)):
        controls = Controls(latent=position, iterations=3, temperature=0.8)
        results.clear()
        engine.request(Request(controls, View(1, 2)))
        assert engine.join(60)
        noise = controls.tempered(controls.noise, decoder)
        logits = decoder.mean() + decoder.offset(noise)
        refined = refine(mrf, torch.log_softmax(logits, dim=0)[None], 3)
        expected = refined[0].argmax(dim=0).numpy().astype(np.uint8)
        np.testing.assert_array_equal(shown, expected)
        slices = [one for one in results if isinstance(one, SliceLabels) and one.is_final]
        np.testing.assert_array_equal(slices[-1].labels, expected[:, 2:3])
        (volumes,) = [one for one in results if isinstance(one, ClassVolumes)]
        counts = np.bincount(expected.ravel(), minlength=N_CLASSES)
        np.testing.assert_allclose(volumes.volumes_ml, VOXEL_ML * counts)
        whole = engine.whole_labels(Request(controls, View(0, 0)))
        np.testing.assert_array_equal(whole.result(60), expected)
        seen.append(expected)
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])
    engine.close()
