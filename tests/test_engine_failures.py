"""Whatever goes wrong in a worker is said and logged, and the worker lives on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, Noise, Region
from napari_structseg.image import Image
from napari_structseg.render.rendering import render_labels
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import Request, Result, SlabLabels, View
from napari_structseg.session.runner import ModelRun
from tiny_models import tiny_model

SHAPE = (3, 4, 5)
TIMEOUT = 60


class Wrong(LowRankNormal):
    """A distribution with a mistake in how it draws its second sample."""

    def __init__(self, error: Exception) -> None:
        generator = torch.Generator().manual_seed(3)
        super().__init__(
            torch.randn((2, *SHAPE), generator=generator),
            torch.randn((1, 2, *SHAPE), generator=generator),
            torch.rand((2, *SHAPE), generator=generator),
        )
        self._error = error

    def offsets(self, noises: list[Noise], region: Region | None = None) -> Tensor:
        if any(noise.sample == 2 for noise in noises):
            raise self._error
        return super().offsets(noises, region)


def ask(sample: int) -> Request:
    return Request(Controls(seed=5, sample=sample), View(0, 1), n_thumbnails=0, n_samples=1)


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "threaded"])
@pytest.mark.parametrize(
    "error", [KeyError("factor"), TypeError("None"), ValueError("shape"), OSError("disk")]
)
def test_the_engine_says_any_error_and_answers_the_next_request(
    error: Exception, synchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    distribution = Wrong(error)
    engine = Engine(distribution, 0.5, synchronous=synchronous)
    labels, failures = np.full(SHAPE, 255, np.uint8), []

    def write(result: Result) -> None:
        if isinstance(result, SlabLabels):
            labels[result.region] = result.labels

    engine.result.connect(write)
    engine.failed.connect(failures.append)
    with caplog.at_level(logging.ERROR):
        engine.request(ask(2))
        assert engine.join(TIMEOUT)
    assert failures == [error]
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)
    engine.request(ask(1))
    assert engine.join(TIMEOUT)
    expected = render_labels(distribution, Noise(5, 1), Controls(seed=5, sample=1))
    np.testing.assert_array_equal(labels, expected)
    engine.close()
    assert engine.join(TIMEOUT)


def test_the_engine_outlives_its_listeners(caplog: pytest.LogCaptureFixture) -> None:
    """One that raises, where it is told of a result and even where it is told of the error."""

    def raise_at(_said: object) -> None:
        raise AttributeError("gone")

    engine = Engine(Wrong(KeyError()), 0.5)
    engine.result.connect(raise_at)
    engine.failed.connect(raise_at)
    engine.idle.connect(lambda: raise_at(None))
    with caplog.at_level(logging.ERROR):
        engine.request(ask(1))
        assert engine.join(TIMEOUT)
    engine.result.disconnect(raise_at)
    said: list[Result] = []
    engine.result.connect(said.append)
    engine.request(ask(1))
    assert engine.join(TIMEOUT)
    assert said
    engine.close()
    assert engine.join(TIMEOUT)


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "threaded"])
def test_a_run_says_any_error_of_its_network(
    tmp_path: Path, synchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch raises a ValueError for a patch that is too small, for example."""
    model = tiny_model(tmp_path / "m.safetensors")
    image = Image.from_array(np.random.default_rng(0).uniform(size=(24, 24, 24)))
    error = ValueError("Expected more than 1 spatial element")
    failures, others = [], []

    def refuse(*_: object) -> None:
        raise error

    def run() -> None:
        one = ModelRun(model, image, device="cpu", synchronous=synchronous)
        one.failed.connect(failures.append)
        one.finished.connect(others.append)
        one.start()
        assert one.join(TIMEOUT)
        one.cancel()
        assert not one.is_running()

    hook = register_module_forward_pre_hook(refuse)
    try:
        with caplog.at_level(logging.ERROR):
            run()
    finally:
        hook.remove()
    assert failures == [error]
    assert not others
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)
    run()
    assert len(others) == 1
