"""Apple GPUs have no double precision: nothing on the device may be float64.

There is none here, so every tensor counts as one of the device until `.cpu()` brings it over, or
it is made from numpy or from nothing. `.to(device)` takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_structseg.devices import free_memory, precise_sum
from napari_structseg.distributions import Noise, PointLogits
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec, IntensitySpec
from napari_structseg.named_controls import make_controls
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.slices import SlicePredictor
from napari_structseg.priors import PriorSpec
from napari_structseg.refine.refinement import Refinement
from tiny_models import tiny_model

WINDOW = IntensitySpec(kind="window", low=0, high=1)
KINDS = ("point", "low_rank", "latent", "hierarchical", "heads", "dropout", "image2image_vae")


class OnADevice(TorchFunctionMode):
    """Refuse double precision anywhere but on the processor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [one for one in tensors((args, kwargs)) if isinstance(one, Tensor)]
        if func is Tensor.cpu:
            result = result.view_as(result)
            result._on_processor = True
            return result
        moved = func is Tensor.to and any(isinstance(one, torch.device) for one in args[1:])
        on_processor = all(getattr(one, "_on_processor", False) for one in given) and not moved
        if moved:
            result = result.view_as(result)
        for one in tensors(result):
            if not on_processor and one.dtype == torch.float64:
                raise TypeError(f"{func} makes float64 on the device")
            one._on_processor = on_processor
        return result


def tensors(values: object) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors(list(values.values()))
    elif isinstance(values, list | tuple) and not isinstance(values, torch.Size):
        for value in values:
            yield from tensors(value)


def image(shape: tuple[int, ...]) -> Image:
    return Image.from_array(np.random.default_rng(0).uniform(0.1, 1, shape).astype(np.float32))


def predictor(folder: Path, kind: str, **fields: object) -> Predictor:
    head = HeadSpec(kind=kind, rank=2, members=2, latent_size=2, latent_scales=1)
    path = tiny_model(folder / "m.safetensors", dimensions=2, head=head, intensity=WINDOW, **fields)
    return Predictor(*load_weights(path), tile=(8, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.double(),
        lambda x: x.sum(dtype=torch.float64),
        lambda x: x.new_zeros(3, dtype=torch.float64),
        lambda x: x.cpu().to(torch.device("cpu")).double(),
    ],
)
def test_the_refusal_refuses(wrong: Callable[[Tensor], Tensor]) -> None:
    x = torch.ones(4)
    x.cpu().double()
    with OnADevice():
        x.cpu().double()
        with pytest.raises(TypeError, match="float64"):
            wrong(x)


@pytest.mark.parametrize("spacing", [None, (1.25, 1.0)], ids=["as it is", "resampled"])
@pytest.mark.parametrize("kind", KINDS)
def test_predicting_and_drawing(
    tmp_path: Path, kind: str, spacing: tuple[float, ...] | None
) -> None:
    made, seen = predictor(tmp_path, kind, spacing=spacing), image((18, 14))
    with OnADevice():
        distribution = made.predict(seen)
        distribution.crop((slice(2, 5), slice(3, 9))).offset(Noise(1, 2))
        distribution.sample(2)
        distribution.probabilities(2)
        if distribution.n_latents:
            directions, strength = distribution.directions()
            assert not directions._on_processor
            assert not strength._on_processor


def test_directions_of_slices(tmp_path: Path) -> None:
    made = SlicePredictor(predictor(tmp_path, "latent"), RegionOfInterest(axis="z", start=0))
    stack = made.predict(image((2, 18, 14)))
    with OnADevice():
        stack.directions()


@pytest.mark.parametrize("update", ["parallel", "coloured"])
def test_mean_field_with_an_energy(update: str) -> None:
    torch.manual_seed(0)
    prior = PriorSpec(kind="energy").build(2, 3).requires_grad_(False)
    distribution = PointLogits(torch.randn(3, 9, 8))
    controls = make_controls(["a", "b", "c"], iterations=3, update=update)
    expected = Refinement(distribution, prior).render_volume(controls)
    with OnADevice():
        labels = Refinement(distribution, prior).render_volume(controls)
    assert (labels == expected).all()


def test_sums() -> None:
    values = torch.rand(50, 40)
    with OnADevice():
        ours = precise_sum(values)
        one = precise_sum(values[0, 0])
    assert ours == pytest.approx(values.double().sum().item(), rel=1e-7)
    assert one == values[0, 0].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_what_torch_keeps_of_a_gpu_counts_as_free() -> None:
    device = torch.device("cuda:0")
    torch.cuda.empty_cache()
    before = free_memory(device)
    block = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    assert free_memory(device) <= before - (1 << 30) + (1 << 25)
    del block
    assert torch.cuda.memory_reserved(device) >= 1 << 30
    assert free_memory(device) >= before - (1 << 25)
