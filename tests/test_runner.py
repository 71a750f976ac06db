"""Running a model in the background: what is said, in which order, and how it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.distributions import slice_region
from napari_structseg.errors import ConfigError, InputError, MemoryLimitError, WeightsError
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.memory import available_memory
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.priors import PriorSpec
from napari_structseg.session.runner import ModelRun, RunOutcome
from tiny_models import tiny_model

TIMEOUT = 120


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "m.safetensors")


def make_image(shape: tuple[int, ...] = (40, 20, 20)) -> Image:
    data = np.random.default_rng(0).uniform(0.1, 1, shape).astype(np.float32)
    return Image.from_array(data)


class Listener:
    """Everything a run has said."""

    def __init__(self, run: ModelRun) -> None:
        self.run = run
        self.said: list[tuple[str, object]] = []
        run.progressed.connect(lambda done, total: self.said.append(("progress", (done, total))))
        run.first_ready.connect(lambda outcome: self.said.append(("first", outcome)))
        run.finished.connect(lambda outcome: self.said.append(("finished", outcome)))
        run.failed.connect(lambda error: self.said.append(("failed", error)))
        run.cancelled.connect(lambda: self.said.append(("cancelled", None)))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.said if kind != "progress"]

    @property
    def progress(self) -> list[object]:
        return [value for kind, value in self.said if kind == "progress"]


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_run_says_first_then_finished(model: Path, synchronous: bool) -> None:
    image = make_image()
    first = slice_region(image.spatial_shape, 0, 3)
    run = ModelRun(model, image, device="cpu", first=first, synchronous=synchronous)
    listener = Listener(run)
    assert not run.is_running()
    run.start()
    assert run.join(TIMEOUT)
    assert not run.is_running()
    assert listener.kinds == ["first", "finished"]
    total = len(listener.progress)
    assert total > 1
    assert listener.progress == [(done, total) for done in range(1, total + 1)]
    kinds = [kind for kind, _ in listener.said]
    assert kinds.index("progress") < kinds.index("first") < len(kinds) - 1
    outcome = listener.said[-1][1]
    assert isinstance(outcome, RunOutcome)
    assert outcome.path == model
    assert outcome.spec.name == "m"
    assert outcome.seconds > 0
    expected = Predictor(*load_weights(model)).predict(image)
    torch.testing.assert_close(outcome.distribution.mean(), expected.mean())


def test_the_first_region_is_final_when_it_is_said_to_be(model: Path) -> None:
    image = make_image((40, 16, 16))
    first = slice_region(image.spatial_shape, 0, 35)
    run = ModelRun(model, image, first=first, synchronous=True)
    early: list[torch.Tensor] = []
    run.first_ready.connect(lambda outcome: early.append(outcome.distribution.mean(first).clone()))
    listener = Listener(run)
    run.start()
    (shown,) = early
    outcome = listener.said[-1][1]
    assert isinstance(outcome, RunOutcome)
    assert torch.equal(shown, outcome.distribution.mean(first))


def test_a_run_of_one_piece_has_no_first_region(model: Path) -> None:
    image = make_image((16, 16, 16))
    run = ModelRun(model, image, first=slice_region((16, 16, 16), 0, 3), synchronous=True)
    listener = Listener(run)
    run.start()
    # The way down, the coarser level, the way up, and the only piece.
    assert listener.progress[-1] == (4, 4)
    assert listener.kinds == ["finished"]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    run = ModelRun(tmp_path / "missing.safetensors", make_image())
    listener = Listener(run)
    run.start()
    assert run.join(TIMEOUT)
    ((kind, error),) = listener.said
    assert kind == "failed"
    assert isinstance(error, WeightsError)
    assert "missing.safetensors" in str(error)


@pytest.mark.parametrize(
    ("image", "device", "expected"),
    [
        (make_image((20, 20)), "cpu", InputError),
        (make_image((2, 2, 2)), "cpu", InputError),
        (Image.from_array(np.ones((2, 9, 9, 9)), channel_axis=0), "cpu", InputError),
        (Image.from_array(np.broadcast_to(np.uint8(1), (30000,) * 3)), "cpu", MemoryLimitError),
        (make_image(), "abacus", ConfigError),
    ],
    ids=["flat", "tiny", "channels", "huge", "device"],
)
def test_what_cannot_run_is_said(
    model: Path, image: Image, device: str, expected: type[Exception]
) -> None:
    run = ModelRun(model, image, device=device, synchronous=True)
    listener = Listener(run)
    run.start()
    ((kind, error),) = listener.said
    assert kind == "failed"
    assert isinstance(error, expected)


def test_a_run_can_be_cancelled_between_steps(model: Path) -> None:
    run = ModelRun(model, make_image())
    listener = Listener(run)
    run.progressed.connect(lambda done, _total: run.cancel() if done == 2 else None)
    run.start()
    assert run.join(TIMEOUT)
    assert len(listener.progress) == 2
    assert listener.kinds == ["cancelled"]


def test_a_run_cancelled_at_its_last_step_gives_nothing(model: Path) -> None:
    run = ModelRun(model, make_image((16, 16, 16)), synchronous=True)
    listener = Listener(run)
    run.cancel()
    run.start()
    assert listener.kinds == ["cancelled"]


@pytest.mark.parametrize("name", ["~nobody-of-this-name/m.safetensors", "m" * 300 + ".safetensors"])
def test_a_path_that_the_system_refuses_is_said(tmp_path: Path, name: str) -> None:
    run = ModelRun(name if name.startswith("~") else tmp_path / name, make_image())
    listener = Listener(run)
    run.start()
    assert run.join(TIMEOUT)
    ((kind, error),) = listener.said
    assert kind == "failed"
    assert isinstance(error, WeightsError)
    assert "Check the path" in str(error)


def test_cancelled_while_the_maps_are_resampled(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "coarse.safetensors", spacing=(2.0, 2.0, 2.0))
    run = ModelRun(path, make_image((48, 48, 48)), synchronous=True)
    listener = Listener(run)
    # The last step but one: after the next one there is nothing left but to resample.
    run.progressed.connect(lambda done, total: done == total - 1 and run.cancel())
    run.start()
    assert listener.kinds == ["cancelled"]


def test_the_memory_of_the_prior_counts(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", prior=PriorSpec())
    predictor = Predictor(*load_weights(path))
    available = available_memory()
    # Such that the model would fit, but not its prior.
    side = 8
    while predictor.required_bytes(flat_image(side + 8)) < 0.95 * available:
        side += 8
    predictor.check(flat_image(side))
    listener = Listener(ModelRun(path, flat_image(side), synchronous=True))
    listener.run.start()
    ((kind, error),) = listener.said
    assert kind == "failed"
    assert isinstance(error, MemoryLimitError)


def flat_image(side: int) -> Image:
    """Of no memory of its own."""
    return Image.from_array(np.broadcast_to(np.uint8(1), (side,) * 3))
