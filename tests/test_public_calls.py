"""`train`, `evaluate` and the energy distance from Python do what the command line does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import napari_structseg as ss
from napari_structseg.errors import ConfigError, InputError, WeightsError
from napari_structseg.evaluation import energy_distance, pairwise_overlap
from stacks import TRAINING, write_stack


def test_a_model_is_trained_and_evaluated(tmp_path: Path) -> None:
    dataset = write_stack(tmp_path / "stack")
    config = tmp_path / "tiny.toml"
    config.write_text(TRAINING)
    steps: list[int] = []
    weights = ss.train(
        dataset, config, tmp_path / "run", device="cpu", report=lambda told: steps.append(told.step)
    )
    assert steps == [1, 2]
    _, spec = ss.load_model(weights, "cpu")
    assert spec.name == "tiny"
    with pytest.raises(ConfigError, match="already holds a run"):
        ss.train(dataset, config, tmp_path / "run")
    with pytest.raises(WeightsError, match="to resume from"):
        ss.train(dataset, config, tmp_path / "other", resume=True)
    out = tmp_path / "result.json"
    summary = ss.evaluate(dataset, weights, out, samples=3, split="test", device="cpu")
    assert summary == json.loads(out.read_text())
    assert summary["data"]["cases"] == 1
    assert summary["models"][0]["metrics"]["ged"]["mean"] >= 0
    with pytest.raises(InputError, match="already holds"):
        ss.evaluate(dataset, weights, out, samples=3)


def test_the_energy_distance_of_arrays() -> None:
    rng = np.random.default_rng(0)
    samples, raters = rng.integers(0, 3, (5, 6, 7)), rng.integers(0, 3, (4, 6, 7))
    matrices = [
        pairwise_overlap(a.astype(np.uint8), b.astype(np.uint8), 3).distances()
        for a, b in ((samples, raters), (samples, samples), (raters, raters))
    ]
    assert ss.generalised_energy_distance(samples, raters) == energy_distance(*matrices)
    unbiased = ss.generalised_energy_distance(samples, raters, statistic="u")
    assert unbiased == energy_distance(*matrices, "u")
    assert ss.generalised_energy_distance(raters, raters) == 0


@pytest.mark.parametrize(
    ("samples", "raters", "options", "says"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3), int), {}, "integer labels"),
        (np.zeros(3, int), np.zeros((2, 3), int), {}, r"of shape \(3,\)"),
        (np.zeros((2, 3), int), np.zeros((2, 4), int), {}, "same voxels"),
        (np.full((2, 3), 300), np.zeros((2, 3), int), {}, "from 0 to 255"),
        (np.full((2, 3), 2), np.zeros((2, 3), int), {"n_classes": 2}, "labels up to 2 for 2"),
        (np.zeros((1, 3), int), np.zeros((2, 3), int), {"statistic": "u"}, "two samples"),
    ],
)
def test_arrays_that_are_no_segmentations(samples, raters, options, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ss.generalised_energy_distance(samples, raters, **options)
