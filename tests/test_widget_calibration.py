"""A calibrated model in the dock: where sliders start, what they are reset to, what is said."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from dock_helpers import dock  # noqa: F401 -- a fixture
from napari_structseg import Noise, make_controls, render_labels
from napari_structseg.models import CalibrationSpec
from napari_structseg.widgets.parts.scale_slider import ScaleSlider
from tiny_models import CLASSES, tiny_model

SCALES = (1.0, 0.5, 2.0, 1.25)
FOUND = CalibrationSpec(
    temperature=1.5,
    class_scale=SCALES,
    score="likelihood",
    before={},
    after={},
    cases=12,
    samples=20,
    seed=7,
)


def sliders(dock) -> list[ScaleSlider]:
    spread = dock.widget.spread
    return [spread.temperature_slider, *(row.scale for row in spread.rows)]


def values(dock) -> list[float]:
    return [one.value for one in sliders(dock)]


@pytest.fixture
def calibrated(dock):
    """The dock after a run of a calibrated model."""
    dock.add_image(name="T1")
    dock.choose(calibration=FOUND)
    dock.run()
    assert dock.widget.is_exploring(), dock.widget.banner.message
    return dock


def test_sliders_start_at_their_marks_and_the_picture_is_of_them(calibrated) -> None:
    widget = calibrated.widget
    assert values(calibrated) == [1.5, *SCALES]
    assert [one.slider.mark for one in sliders(calibrated)] == [1.5, *SCALES]
    assert not any(one.reset_button.isEnabled() for one in sliders(calibrated))
    assert "where the model is calibrated" in widget.spread.rows[2].scale.reset_button.toolTip()
    assert widget.spread.note.isVisibleTo(widget.spread)
    assert "calibrated on 12 labelled cases" in widget.spread.note.text()
    widget.strip.select(1)
    calibrated.settle()
    classes = [one.name for one in CLASSES]
    told = make_controls(classes, temperature=1.5, class_scale=SCALES)
    expected = render_labels(calibrated.distribution, Noise(7, 1), told)
    assert np.array_equal(calibrated.labels, expected)


def test_reset_goes_back_to_the_calibrated_numbers(calibrated, qtbot) -> None:
    spread = calibrated.widget.spread
    spread.temperature_slider.set_value(0.5)
    spread.rows[2].scale.set_value(-1)
    qtbot.mouseDClick(spread.rows[2].scale.slider, Qt.MouseButton.LeftButton)
    assert values(calibrated) == [0.5, *SCALES]
    spread.rows[1].scale.set_value(0)
    spread.reset_button.click()
    assert values(calibrated) == [1.5, *SCALES]
    assert calibrated.widget.state.controls.class_scale == SCALES
    spread.rows[1].scale.set_value(1.0)
    calibrated.widget.reset()
    assert values(calibrated) == [1.5, *SCALES]
    calibrated.settle()


def test_the_mean_is_left_only_where_a_slider_leaves_its_mark(calibrated) -> None:
    widget = calibrated.widget
    controls = widget.state.controls
    widget.spread.temperature_slider.set_value(1.0)
    assert controls.sample == 1
    controls.sample = 0
    widget.spread.temperature_slider.set_value(1.5)
    assert controls.sample == 0
    calibrated.settle()


def test_another_model_starts_where_it_says(calibrated) -> None:
    plain = tiny_model(calibrated.folder / "plain.safetensors")
    calibrated.widget.source.choose_model(plain)
    calibrated.run()
    assert values(calibrated) == [1, 1, 1, 1, 1]
    assert [one.slider.mark for one in sliders(calibrated)] == [1, 1, 1, 1, 1]
    assert not calibrated.widget.spread.note.isVisibleTo(calibrated.widget.spread)
    assert "calibrated" not in calibrated.widget.spread.reset_button.toolTip()
