"""The plot of convergence in the neighbours panel."""

from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.refine.convergence import Convergence
from neighbours_helpers import convergence, n_colors, panel, pixels, state  # noqa: F401


def test_convergence_is_read_at_the_iteration_marked(panel) -> None:
    curves = convergence()
    panel.show_convergence(curves)
    panel.iteration_slider.set_value(2)
    assert panel.details.plot.convergence is curves
    assert panel.details.plot.iteration == 2
    assert panel.details.plot.readout == {"Residual": "0.08", "Changed": "0.9 %", "Energy": "1,260"}
    panel.iteration_slider.set_value(9)
    assert panel.details.plot.readout["Changed"] == "0 %"
    assert panel.details.plot.readout["Residual"] == "1.3e−4"
    panel.iteration_slider.set_value(0)
    assert set(panel.details.plot.readout.values()) == {""}
    # Beyond what is computed: the last that is.
    panel.iteration_slider.set_value(40)
    assert panel.details.plot.readout["Energy"] == "1,235"
    panel.show_convergence(convergence(with_energy=False))
    assert set(panel.details.plot.readout) == {"Residual", "Changed"}


@pytest.mark.parametrize(
    ("curves", "extent"),
    [(None, 10), (convergence(), 20), (convergence(with_energy=False), 20)],
)
def test_the_plot_is_painted(panel, curves, extent) -> None:
    panel.iteration_slider.set_value(5)
    empty = pixels(panel.details.plot)
    panel.show_convergence(curves)
    assert panel.details.plot.extent == extent
    assert n_colors(panel.details.plot) > 10
    assert (curves is None) == np.array_equal(pixels(panel.details.plot), empty)
    assert panel.details.plot.height() <= 90


def test_the_mark_moves_over_the_plot(panel) -> None:
    panel.show_convergence(convergence())
    panel.iteration_slider.set_value(3)
    before = pixels(panel.details.plot)
    panel.iteration_slider.set_value(8)
    assert not np.array_equal(before, pixels(panel.details.plot))


@pytest.mark.parametrize(
    "curves",
    [
        Convergence(np.zeros(0), np.zeros(0), np.zeros(0)),
        Convergence(np.array([0.3]), np.array([0.0]), np.array([-2e6])),
        Convergence(np.zeros(4), np.zeros(4), np.full(4, 7.0)),
        Convergence(np.full(50, 1e-30), np.full(50, 1e-9)),
    ],
)
def test_curves_of_every_kind_are_drawn(panel, curves) -> None:
    panel.show_convergence(curves)
    panel.iteration_slider.set_value(1)
    assert n_colors(panel.details.plot) > 10
    if curves.n_iterations == 1:
        assert panel.details.plot.readout["Energy"] == "−2,000,000"
    if curves.n_iterations == 50:
        assert panel.details.plot.readout == {"Residual": "1.0e−30", "Changed": "<0.001 %"}
