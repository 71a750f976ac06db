"""`structseg bench predict`, on a few voxels of MNI152."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from napari_structseg.bench.predict import PredictSettings, bench_predict, rows
from napari_structseg.bench.predict_direct import sliding_window
from napari_structseg.cli import main
from tiny_models import tiny_model


def test_both_ways_are_measured(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.safetensors", zero_is_background=True)
    said: list[str] = []
    result = bench_predict(PredictSettings(str(model), (20, 24, 22)), said.append)
    assert result["shape"] == [20, 24, 22]
    assert 0 < result["first_slice_s"] <= result["complete_s"]
    assert result["peak_memory_mb"] > 0
    assert result["speedup"] == pytest.approx(
        result["direct"]["complete_s"] / result["complete_s"], rel=0.2
    )
    assert 0 < result["same_labels"] <= 1
    assert result["direct"]["way"]
    assert len(said) == 2
    assert len(rows(result)) == 4
    assert json.loads(json.dumps(result)) == result


def test_sizes_below_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.json"
    assert main(["bench", "predict", "--json", str(out), "--shape", "0", "4", "4"]) == 2
    assert "three sizes of at least 1" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("shape", [(9, 20), (8, 5), (30, 8)])
def test_a_sliding_window_blends_what_a_network_says_of_windows(shape: tuple[int, ...]) -> None:
    x = torch.rand(1, 2, *shape)
    # What looks at one voxel alone is not changed by windows.
    found = sliding_window(x, (8, 8), lambda window: window.square() + 1)
    torch.testing.assert_close(found, x.square() + 1)
    layer = nn.Conv2d(2, 3, 3, padding=1)

    def run(window: Tensor) -> Tensor:
        assert window.shape == (1, 2, 8, 8)
        return layer(window)

    with torch.inference_mode():
        windowed, whole = sliding_window(x, (8, 8), run), layer(x)
    assert windowed.shape == whole.shape
    # The middle of a window counts much more than its face, where it sees zeros.
    assert (windowed - whole).abs().mean() < 0.1 * whole.abs().mean()
