"""`zero_is_background` was called `roi`: files and configurations of that time still load."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import METADATA_KEY, load_weights, read_spec
from napari_structseg.training.config import read_config
from tiny_models import tiny_model


def test_the_shipped_model_of_that_time() -> None:
    assert read_spec(find_model("brain-tissue")).zero_is_background
    assert not read_spec(find_model("lung-nodule")).zero_is_background


def test_a_file_of_that_time(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors", zero_is_background=True)
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()[METADATA_KEY])
    assert described["zero_is_background"]
    assert "roi" not in described
    described["roi"] = described.pop("zero_is_background")
    old = tmp_path / "old.safetensors"
    save_file(load_file(path), old, metadata={METADATA_KEY: json.dumps(described)})
    assert load_weights(old)[1] == load_weights(path)[1]


def test_a_configuration_of_that_time(tmp_path: Path) -> None:
    text = 'name = "m"\ndimensions = 2\npatch = [8, 8]\n[loss]\n{} = true\n'
    configs = []
    for name in ("roi", "zero_is_background"):
        path = tmp_path / f"{name}.toml"
        path.write_text(text.format(name), encoding="utf-8")
        configs.append(read_config(path))
    assert configs[0] == configs[1]
    assert configs[0].loss.zero_is_background
