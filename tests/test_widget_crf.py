"""The CRF in the dock: sliders moved, labels read back, undo, state and what is saved."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dock_helpers import dock, exploring  # noqa: F401 -- fixtures
from napari_structseg import Noise, render_labels
from napari_structseg.controls import Controls
from napari_structseg.distributions import Strokes
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.session.state import ExplorerState


def cut(dock, **changed):
    controls = dock.widget.controls.model_copy(update=changed)
    noise = Noise(controls.seed, controls.sample) if controls.sample else None
    image = dock.widget._controller.current.image
    return render_labels(dock.distribution, noise, controls, image=image)


def by_crf(dock):
    dock.widget.neighbours.coupling_choice.buttons["crf"].click()
    dock.settle()
    return dock.widget.neighbours.crf


def test_a_model_without_an_mrf_can_have_a_crf(exploring) -> None:
    panel = exploring.widget.neighbours
    assert panel.crf.isHidden()
    plain = exploring.labels.copy()
    crf = by_crf(exploring)
    assert not crf.isHidden()
    assert panel._mrf.isHidden()
    assert np.array_equal(exploring.labels, cut(exploring))
    assert not np.array_equal(exploring.labels, plain)
    assert exploring.widget.sections[-1].header.text() == "Neighbours · CRF"
    panel.coupling_choice.buttons["none"].click()
    exploring.settle()
    assert np.array_equal(exploring.labels, plain)


def test_every_slider_moves_labels_and_can_be_undone(exploring) -> None:
    crf = by_crf(exploring)
    state = exploring.widget.state
    for field, value in (("smooth", 2.0), ("contrast", 3.0), ("unary", 0.5), ("scale", 4.0)):
        before = state.controls.crf
        exploring.widget._session.history._last = None
        crf.sliders[field].set_value(value)
        exploring.settle()
        assert getattr(state.controls.crf, field) == value
        assert np.array_equal(exploring.labels, cut(exploring))
        exploring.widget.undo()
        exploring.settle()
        assert state.controls.crf == before
        assert crf.sliders[field].value == getattr(before, field)
        assert np.array_equal(exploring.labels, cut(exploring))
    crf.neighbours_choice.buttons["all"].click()
    exploring.settle()
    assert np.array_equal(exploring.labels, cut(exploring))
    exploring.widget.neighbours.reset()
    assert exploring.widget.neighbours.is_default


def test_the_energy_is_shown_by_terms_and_whose_it_is(exploring) -> None:
    crf = by_crf(exploring)
    assert crf.energy.text().startswith("Energy ")
    assert all(word in crf.energy.text() for word in ("model", "smooth", "contrast"))
    assert "volume" in crf.energy.toolTip()
    assert crf.progress.text() == ""
    crf.volume_box.setChecked(False)
    crf.sliders["smooth"].set_value(1.0)
    exploring.settle()
    assert "slice" in crf.energy.toolTip()
    assert crf.progress.text() == "the slice alone"
    crf.volume_box.setChecked(True)
    exploring.settle()
    assert np.array_equal(exploring.labels, cut(exploring))
    assert "volume" in crf.energy.toolTip()


def test_samples_and_strokes_are_cut(exploring) -> None:
    by_crf(exploring)
    exploring.widget.state.controls.sample = 3
    exploring.settle()
    assert np.array_equal(exploring.labels, cut(exploring))
    said = np.zeros(exploring.labels.shape, np.int64)
    said[5, 8:12, 6:9] = 4
    exploring.widget.state.correction.strokes = Strokes.from_array(said, 4)
    exploring.settle()
    assert (exploring.labels[said > 0] == 3).all()


def test_pictures_of_samples_are_said_to_be_of_the_model_until_they_are_cut(exploring) -> None:
    widget = exploring.widget
    assert widget.strip.alone_note.isHidden()
    by_crf(exploring)
    assert widget._thumbnails.refined
    assert not widget.strip.alone_note.isHidden()
    assert widget.strip.alone_note.text() == ""
    position = widget._controller.request.view.position
    for sample in (0, 2):
        widget.state.controls.sample = sample
        exploring.settle()
        assert np.array_equal(widget._thumbnails.labels[sample], exploring.labels[position])


def test_the_state_round_trips_and_saving_says_the_command(exploring, tmp_path) -> None:
    by_crf(exploring)
    state = exploring.widget.state
    state.controls.crf = CRFSpec(smooth=0.7, neighbours="all")
    exploring.settle()
    again = ExplorerState.model_validate_json(state.model_dump_json())
    assert again.controls.crf == state.controls.crf
    assert again.controls.coupling == "crf"
    assert again.controls.frozen() == state.controls.frozen()
    exploring.widget._session.saving.save(str(tmp_path / "mine.nii.gz"))
    exploring.wait((tmp_path / "mine.json").exists)
    record = json.loads((tmp_path / "mine.json").read_text())
    assert record["controls"]["coupling"] == "crf"
    assert Controls.model_validate(record["controls"]).crf == state.controls.crf


def test_learned_weights_are_where_the_sliders_start(dock) -> None:
    learned = CRFSpec(smooth=0.25, contrast=1.5, scale=2)
    dock.add_image(name="T1", scale=(2, 1, 1))
    dock.choose(crf=learned)
    dock.run()
    assert dock.widget.state.controls.crf == learned
    # What was learned with the model is in use from the start.
    assert dock.widget.state.controls.coupling == "crf"
    assert dock.widget.neighbours.is_default
    assert np.array_equal(dock.labels, cut(dock))
    crf = by_crf(dock)
    assert crf.sliders["contrast"].value == pytest.approx(1.5)
    crf.sliders["contrast"].set_value(3)
    dock.widget.neighbours.reset()
    assert dock.widget.state.controls.crf == learned
    assert dock.widget.neighbours.is_default
