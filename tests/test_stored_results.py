"""Results that the repository keeps: their pages are made of them again at any time."""

from __future__ import annotations

import json

import pytest

from conftest import REPOSITORY
from napari_structseg.evaluation.metrics import metric_of

LIDC = REPOSITORY / "experiments" / "lidc"


@pytest.mark.parametrize("name", ["small-all", "small-one", "medium-all"])
def test_scores_are_called_as_the_metrics_are(name: str) -> None:
    stored = json.loads((LIDC / f"{name}.json").read_text(encoding="utf-8"))["scores"]
    for scores in stored.values():
        for metric in scores:
            metric_of(metric)
        # What the tables say of the raters.
        assert "rater_diversity" in scores


def test_the_shipped_model_has_both_dice() -> None:
    (model,) = json.loads((LIDC / "lung_nodule.json").read_text(encoding="utf-8"))["models"]
    card = (REPOSITORY / "src/napari_structseg/weights/lung-nodule.md").read_text(encoding="utf-8")
    for metric in ("dice", "dice_of_mean_probability", "ged"):
        assert f"| {model['metrics'][metric]['mean']:.3f} |" in card
