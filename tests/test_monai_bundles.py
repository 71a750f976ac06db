"""MONAI bundles become models, by what they say of themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_structseg.cli import main
from napari_structseg.errors import WeightsError
from napari_structseg.imports.monai import is_bundle, read_bundle
from napari_structseg.io.weights import load_weights, read_spec
from napari_structseg.prediction.predictor import Predictor
from program_helpers import Asymmetric, traced
from test_predictor_contract import random_image

METADATA: dict[str, Any] = {
    "name": "Spleen CT",
    "task": "spleen segmentation",
    "data_source": "Task09",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image",
                "num_channels": 1,
                "spatial_shape": [8, 12, 16],
                "channel_def": {"0": "image"},
            }
        },
        "outputs": {
            "pred": {
                "num_channels": 3,
                "channel_def": {"0": "background", "1": "spleen", "2": "cyst"},
            }
        },
    },
}
INFERENCE: dict[str, Any] = {
    "imports": ["$import glob"],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.25, 2.0]},
            {
                "_target_": "ScaleIntensityRanged",
                "a_min": -57,
                "a_max": 164,
                "b_min": -1,
                "b_max": 1,
                "clip": True,
            },
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [8, 12, 16], "overlap": 0.25},
}


def bundle(
    folder: Path,
    metadata: dict[str, Any] = METADATA,
    inference: dict[str, Any] = INFERENCE,
    n_classes: int = 3,
) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    network = Asymmetric(n_classes=n_classes)
    traced(network, folder / "models" / "model.ts", torch.rand(1, 1, 8, 12, 16))
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_a_bundle_says_how_it_is_used(tmp_path: Path, *, zipped: bool) -> None:
    found = bundle(tmp_path / "bundles" / "spleen")
    if zipped:
        found = Path(shutil.make_archive(str(tmp_path / "spleen"), "zip", found.parent))
    out = tmp_path / "spleen.safetensors"
    assert is_bundle(found)
    assert main(["import", str(found), "--out", str(out)]) == 0
    spec = read_spec(out)
    assert spec.name == "Spleen CT"
    assert spec.class_names == ("background", "spleen", "cyst")
    # MONAI says x, y, z.
    assert spec.patch == (16, 12, 8)
    assert spec.spacing == (2.0, 1.25, 1.5)
    assert (spec.intensity.low, spec.intensity.high) == (-57, 164)
    assert spec.program is not None
    assert (spec.program.axes, spec.program.orientation) == ("xyz", "LPS")
    assert (spec.program.span, spec.program.overlap) == ((-1, 1), 0.25)
    image = random_image((10, 9, 7))
    assert Predictor(*load_weights(out)).predict(image).spatial_shape == image.spatial_shape


def test_what_a_bundle_would_have_evaluated_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inference = {"preprocessing": "$__import__('os').system('touch victim')", "inferer": "@x"}
    found = bundle(tmp_path / "spleen", inference=inference)
    out = tmp_path / "out.safetensors"
    assert main(["import", str(found), "--out", str(out)]) == 2
    assert "[intensity]" in capsys.readouterr().err
    settings = tmp_path / "spleen.toml"
    settings.write_text('[intensity]\nkind = "zscore"\n')
    assert main(["import", str(found), "--settings", str(settings), "--out", str(out)]) == 0
    assert read_spec(out).intensity.kind == "zscore"


def test_any_multiple_of_a_size(tmp_path: Path) -> None:
    metadata = json.loads(json.dumps(METADATA))
    image = metadata["network_data_format"]["inputs"]["image"]
    image["spatial_shape"] = ["4*n", "4*n", "4*n"]
    table = read_bundle(bundle(tmp_path / "spleen", metadata)).table
    assert (table["sizes"], table["divisor"], table["patch"]) == ("multiple", 4, [16, 12, 8])


def test_classes_that_overlap_are_refused(tmp_path: Path) -> None:
    inference = {**INFERENCE, "post": {"_target_": "Activationsd", "sigmoid": True}}
    with pytest.raises(WeightsError, match="overlap"):
        read_bundle(bundle(tmp_path / "brats", inference=inference))


def test_weights_alone_are_refused_with_the_way_out(tmp_path: Path) -> None:
    found = bundle(tmp_path / "spleen")
    (found / "models" / "model.ts").rename(found / "models" / "model.pt")
    with pytest.raises(WeightsError, match="ckpt_export"):
        read_bundle(found)
    (found / "configs" / "metadata.json").write_text("[")
    with pytest.raises(WeightsError, match="JSON"):
        read_bundle(found)
