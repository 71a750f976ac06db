"""The dock with a model that has a prior: sliders moved, layers read back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dock_helpers import brain, dock  # noqa: F401 -- a fixture
from napari_structseg.controls import ITERATIONS_MAX
from napari_structseg.distributions import slice_region
from napari_structseg.priors import PriorSpec, nudged, refine
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.mean_field import AHEAD
from napari_structseg.render.rendering import combine, render_labels
from napari_structseg.session.messages import Show


@pytest.fixture
def exploring(dock):
    dock.add_image(name="T1", scale=(2, 1, 1))
    dock.choose(prior=PriorSpec(kind="network", iterations=4))
    # Each picture is a sample that the MRF refines: they have tests of their own.
    dock.widget.state.display.n_thumbnails = 2
    dock.run()
    assert dock.widget.is_exploring(), dock.widget.banner.message
    return dock


def without_prior(dock) -> np.ndarray:
    controls = dock.widget.controls
    return render_labels(dock.distribution, controls.noise, controls)


def expected(dock, **changed: object) -> np.ndarray:
    controls = dock.widget.controls.model_copy(update=changed)
    prior = dock.widget._controller.current.prior
    distribution = dock.distribution
    noise = controls.noise
    offset = None if noise is None else distribution.offset(noise)
    logits = combine(distribution.mean(), offset, controls.weights(4))
    pairs = [(one.first, one.second, one.amount) for one in controls.nudges]
    with torch.inference_mode():
        refined = refine(
            nudged(prior, pairs),
            torch.log_softmax(logits, dim=0)[None],
            controls.iterations,
            strength=controls.mrf_strength,
            damping=controls.damping,
            update=controls.update_rule,
        )
    return refined[0].argmax(dim=0).numpy()


def test_the_models_own_iterations_are_shown_first(exploring) -> None:
    widget = exploring.widget
    assert widget.controls.iterations == 4
    assert np.array_equal(exploring.labels, expected(exploring))
    assert not np.array_equal(exploring.labels, without_prior(exploring))
    assert widget.neighbours.details.plot.convergence.n_iterations == 4 + AHEAD
    assert widget.neighbours.weights_button.isEnabled()


def test_iterations_back_and_forth(exploring) -> None:
    panel = exploring.widget.neighbours
    for iterations in (12, 3, 0, 50, 1):
        panel.iteration_slider.set_value(iterations)
        exploring.settle()
        wanted = expected(exploring) if iterations else without_prior(exploring)
        assert np.array_equal(exploring.labels, wanted), iterations


def test_every_control_of_the_prior(exploring) -> None:
    panel = exploring.widget.neighbours
    exploring.widget.strip.select(2)
    panel.strength_slider.set_value(2.5)
    panel.details.damping_slider.set_value(0.5)
    exploring.settle()
    assert np.array_equal(exploring.labels, expected(exploring))
    for update in ("coloured", "parallel"):
        panel.details.update_choice.choose(update)
        exploring.settle()
        assert exploring.widget.controls.update_rule == update
        assert np.array_equal(exploring.labels, expected(exploring))
    before = exploring.labels.copy()
    panel.weights_button.click()
    panel.picture.select(1, 2)
    panel.picture.slider.set_value(-4)
    exploring.settle()
    assert exploring.widget.controls.nudges[0].amount == -4
    assert np.array_equal(exploring.labels, expected(exploring))
    assert not np.array_equal(exploring.labels, before)
    panel.reset_button.click()
    exploring.settle()
    assert panel.is_default
    assert np.array_equal(exploring.labels, expected(exploring))


def test_the_temperature_moves_what_the_prior_refines(exploring) -> None:
    exploring.widget.strip.select(1)
    exploring.widget.spread.temperature_slider.set_value(2)
    exploring.settle()
    assert exploring.widget.controls.temperature == 2
    assert np.array_equal(exploring.labels, expected(exploring))


@pytest.mark.parametrize("axis", [1, 2])
def test_slices_along_any_axis(exploring, axis: int) -> None:
    order = [axis, *(one for one in range(3) if one != axis)]
    exploring.viewer.dims.order = order
    exploring.viewer.dims.set_current_step(axis, 7)
    exploring.widget.neighbours.strength_slider.set_value(1.5)
    exploring.settle()
    assert np.array_equal(exploring.labels, expected(exploring))


def test_three_dimensions(exploring) -> None:
    exploring.viewer.dims.ndisplay = 3
    exploring.widget.neighbours.strength_slider.set_value(0.5)
    exploring.settle()
    assert np.array_equal(exploring.labels, expected(exploring))


def test_changes_are_marked_on_a_layer_of_their_own(exploring) -> None:
    panel, viewer = exploring.widget.neighbours, exploring.viewer
    assert "Changes" not in viewer.layers
    assert viewer.layers.selection.active.name == "T1"
    viewer.dims.set_current_step(0, 5)
    panel.changes_choice.choose(Changes.START)
    exploring.settle()
    marks = viewer.layers["Changes"]
    region = slice_region(exploring.labels.shape, 0, 5)
    differs = expected(exploring) != without_prior(exploring)
    assert marks.visible
    assert differs[region].any()
    assert np.array_equal(marks.data[region].astype(bool), differs[region])
    assert viewer.layers.selection.active.name == "T1"
    panel.changes_choice.choose(Changes.PREVIOUS)
    exploring.settle()
    differs = expected(exploring) != expected(exploring, iterations=3)
    assert np.array_equal(marks.data[region].astype(bool), differs[region])
    exploring.widget.show_panel.choose(Show.ENTROPY)
    exploring.settle()
    assert not marks.visible
    exploring.widget.show_panel.choose(Show.LABELS)
    panel.changes_choice.choose(Changes.NONE)
    exploring.settle()
    assert not marks.visible


def test_it_stops_when_converged(exploring) -> None:
    panel = exploring.widget.neighbours
    panel.strength_slider.set_value(0.1)
    panel.stop_box.setChecked(True)
    exploring.settle()
    assert panel.details.plot.convergence.n_iterations < ITERATIONS_MAX
    n = panel.details.plot.convergence.n_iterations
    assert panel.details.plot.convergence.residual[-1] <= 1e-2
    assert panel.progress.text() == f"converged after {n}"
    # It is seen in the picture, too.
    panel.iteration_slider.set_value(ITERATIONS_MAX)
    exploring.settle()
    assert panel.progress.text() == f"converged after {n}"
    assert np.array_equal(exploring.labels, expected(exploring, iterations=n))


def test_a_model_without_a_prior_after_one_with(exploring) -> None:
    exploring.choose()
    exploring.run()
    panel = exploring.widget.neighbours
    assert panel.note.isVisibleTo(panel)
    assert exploring.widget.controls.iterations == 0
    assert np.array_equal(exploring.labels, without_prior(exploring))


def test_a_flat_image(dock) -> None:
    dock.add_image(brain((20, 16)))
    dock.choose(dimensions=2, prior=PriorSpec(kind="energy", iterations=6))
    dock.run()
    dock.widget.neighbours.strength_slider.set_value(4)
    dock.settle()
    assert not dock.widget.banner.message
    assert np.array_equal(dock.labels, expected(dock))
    energy = dock.widget.neighbours.details.plot.convergence.free_energy
    assert energy is not None


def test_keys(exploring, qtbot) -> None:
    from napari_structseg.widgets.shortcuts import SHORTCUTS

    acts = {shortcut.key: shortcut.act for shortcut in SHORTCUTS}
    acts["Shift-I"](exploring.widget)
    assert exploring.widget.controls.iterations == 5
    acts["Shift-U"](exploring.widget)
    acts["Shift-U"](exploring.widget)
    assert exploring.widget.controls.iterations == 3


def test_no_range_of_the_model_alone_is_shown_beside_refined_volumes(exploring) -> None:
    widget = exploring.widget
    caption = widget.spread.caption
    for _ in range(2):
        assert caption.text() == "with neighbours: no range"
        assert all(row.volume.text() and not row.interval.text() for row in widget.spread.rows[1:])
        widget.neighbours.iteration_slider.set_value(0)
        assert "no range" not in caption.text()
        exploring.settle()
        assert caption.text() == "5–95 % of 20 samples"
        assert all(row.volume.text() and row.interval.text() for row in widget.spread.rows[1:])
        widget.neighbours.iteration_slider.set_value(2)
        # At once, not when the refined volumes come.
        assert not any(row.interval.text() for row in widget.spread.rows[1:])
        assert not any(row.volume.is_current for row in widget.spread.rows[1:])
        exploring.settle()
