"""The explorer: what a script sets is seen in the dock, and what it shows is read by the script."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import napari_structseg as ss
from conftest import REPOSITORY
from dock_helpers import SHAPE, brain, dock  # noqa: F401 -- a fixture
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.widgets.explorer import DOCK_NAME
from tiny_models import tiny_model


def own(shape: tuple[int, ...] = SHAPE, n_classes: int = 3) -> ss.LowRankNormal:
    """A distribution of one's own tensors."""
    generator = torch.Generator().manual_seed(1)
    return ss.LowRankNormal(
        torch.randn(n_classes, *shape, generator=generator),
        torch.randn(2, n_classes, *shape, generator=generator),
        torch.full((n_classes, *shape), 0.1),
    )


def rendered(explorer: ss.Explorer) -> np.ndarray:
    controls = explorer.controls.frozen()
    return ss.render_labels(explorer.distribution, controls.noise, controls)


def test_the_page_runs(make_napari_viewer, tmp_path, monkeypatch) -> None:
    # The page saves to a relative name.
    monkeypatch.chdir(tmp_path)
    viewer = make_napari_viewer()
    viewer.add_image(brain(), name="MNI152 T1")
    model = tiny_model(tmp_path / "tiny.safetensors")
    text = (REPOSITORY / "docs/explorer.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    names = {"viewer": viewer}
    exec(compile(code.replace("brain-tissue", str(model)), "explorer.md", "exec"), names)
    (dock,) = (one for name, one in viewer.window.dock_widgets.items() if name == DOCK_NAME)
    assert dock.spread.temperature_slider.value == 1
    assert [row.name.text() for row in dock.spread.rows] == ["Background", "Liver", "Lesion"]
    # The sample that was chosen before is one of the model's, not of this distribution.
    explorer = names["explorer"]
    assert np.array_equal(explorer.labels(), rendered(explorer))
    assert names["labels"].shape == SHAPE
    assert {path.name for path in tmp_path.glob("result.*")} == {
        f"result.{end}" for end in ("csv", "json", "nii.gz")
    }
    dock.shut_down()


def test_what_is_set_is_seen(dock) -> None:
    dock.add_image(name="T1")
    explorer = ss.explorer(dock.viewer)
    assert explorer.state is dock.widget.state
    explorer.run("T1", tiny_model(dock.folder / "tiny.safetensors"))
    explorer.wait(60)
    explorer.controls.temperature = 1.4
    explorer.controls.sample = 3
    assert dock.widget.spread.temperature_slider.value == 1.4
    assert dock.widget.strip.thumbnails[3].isChecked()
    # Before the pass over the volume is done, and after it.
    assert np.array_equal(explorer.labels(), rendered(explorer))
    explorer.wait(60)
    assert np.array_equal(dock.labels, rendered(explorer))
    dock.widget.spread.rows[1].scale.slider.setValue(-1)
    assert explorer.controls.class_scale[1] == -1
    explorer.wait(60)


def test_ones_own_distribution(dock) -> None:
    layer = dock.add_image(name="T1")
    explorer = ss.explorer(dock.viewer)
    explorer.show_distribution(own(), layer, classes=["air", "liver", "lesion"])
    explorer.controls.sample = 2
    explorer.wait(60)
    assert np.array_equal(dock.labels, rendered(explorer))
    assert len(dock.widget.spread.rows) == 3
    with pytest.raises(InputError, match="on the grid of 'T1'"):
        explorer.show_distribution(own((3, 4, 5)), layer)
    with pytest.raises(ConfigError, match="3 classes were expected"):
        explorer.show_distribution(own(), layer, classes=["one"])
    image = ss.Image.from_array(brain((6, 8, 10)), spacing=(1, 1, 2), name="scan")
    explorer.show_distribution(own((6, 8, 10), 2), image)
    explorer.wait(60)
    assert explorer.state.source.image == "scan"
    assert np.array_equal(dock.labels, rendered(explorer))


def test_what_cannot_be_done_is_said(dock) -> None:
    explorer = ss.explorer(dock.viewer)
    with pytest.raises(InputError, match="Nothing was computed"):
        explorer.labels()
    with pytest.raises(InputError, match="There are: none"):
        explorer.run("T1", "brain-tissue")
    dock.add_image(name="T1")
    broken = dock.folder / "broken.safetensors"
    broken.write_bytes(b"nonsense that is no model")
    explorer.run("T1", broken)
    with pytest.raises(ss.StructSegError, match="not a safetensors file"):
        explorer.wait(60)
    explorer.wait(60)
