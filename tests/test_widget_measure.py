"""The Measure dock, in a real window."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtGui import QGuiApplication

from dock_helpers import dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.distributions import Noise
from napari_structseg.priors import PriorSpec
from napari_structseg.render.rendering import render_labels
from napari_structseg.results.measurements import Measurements
from napari_structseg.widgets.measure_dock import MeasureWidget

VOXEL_ML = 2 / 1000


@pytest.fixture
def measure(exploring):
    """The Measure dock beside an Explore dock in which a model has run."""
    widget = MeasureWidget(exploring.viewer)
    exploring.viewer.window.add_dock_widget(widget, name="Measure")
    exploring.settle()
    yield widget
    widget.shut_down()


def table(widget: MeasureWidget) -> list[dict[str, str]]:
    """What is copied."""
    widget.copy()
    text = QGuiApplication.clipboard().text()
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def text_of(widget: MeasureWidget, label: int, name: str) -> str:
    return widget.table.figures[label, name].text()


def test_sizes_are_those_of_the_labels_and_of_the_samples(exploring, measure) -> None:
    rows = table(measure)
    counts = np.bincount(exploring.labels.ravel(), minlength=4)
    assert [float(row["shown"]) for row in rows] == pytest.approx(counts * VOXEL_ML, abs=1e-4)
    distribution, controls = exploring.distribution, exploring.widget.controls
    volumes = np.array(
        [
            np.bincount(
                render_labels(distribution, Noise(controls.seed, sample), controls).ravel(),
                minlength=4,
            )
            for sample in range(1, 21)
        ]
    )
    for label, row in enumerate(rows):
        sizes = volumes[:, label] * VOXEL_ML
        assert float(row["mean"]) == pytest.approx(sizes.mean(), abs=1e-4)
        assert float(row["median"]) == pytest.approx(np.median(sizes), abs=1e-4)
        assert float(row["p95"]) == pytest.approx(np.percentile(sizes, 95), abs=1e-4)
        assert measure.table.plots[label].volumes_ml == pytest.approx(sizes)
    assert text_of(measure, 1, "shown") == f"{counts[1] * VOXEL_ML:.2f}"
    assert "20 samples" in measure.caption.text()
    assert "mL" in measure.subject.text()


def test_what_is_out_of_date_is_neither_black_nor_copied(exploring, measure) -> None:
    exploring.widget.state.controls.temperature = 2.0
    assert not measure.table.figures[1, "mean"].is_current
    assert "updating" in measure.caption.text()
    assert table(measure)[1]["mean"] == ""
    exploring.settle()
    assert measure.table.figures[1, "mean"].is_current
    assert "updating" not in measure.caption.text()
    assert table(measure)[1]["mean"] != ""


def test_a_moving_slider_makes_it_out_of_date_once(exploring, measure) -> None:
    told = []
    measure.measuring.changed.connect(lambda: told.append(measure.measuring.currency))
    for temperature in (1.1, 1.2, 1.3, 1.4):
        exploring.widget.state.controls.temperature = temperature
    assert len(told) == 1
    assert not told[0].samples
    exploring.settle()
    assert told[-1].samples


def test_the_result_beside_the_labels_shown(exploring, measure) -> None:
    assert not measure.no_result.isHidden()
    assert not measure.compare_button.isEnabled()
    correcting = measure._session.correcting
    correcting.result.accept_all()
    exploring.settle()
    assert measure.compare_button.isEnabled()
    rows = table(measure)
    assert rows[1]["result"] == rows[1]["shown"] != ""
    assert rows[1]["dice"] == ""
    measure.compare()
    exploring.settle()
    rows = table(measure)
    is_there = np.bincount(exploring.labels.ravel(), minlength=4)[1:] > 0
    assert [row["dice"] for row in rows[1:]] == [("", "1.0000")[int(one)] for one in is_there]
    assert rows[1]["surface_mm"] == "0.0000"
    assert measure.agreement.figures[1, "dice"].text() == "1.00"
    # Another sample is another labelling: the comparison is no longer of it.
    exploring.widget.state.controls.sample = 2
    exploring.settle()
    assert table(measure)[1]["dice"] == ""
    measure.compare()
    exploring.settle()
    assert 0 < float(table(measure)[1]["dice"]) < 1
    assert float(table(measure)[1]["surface_mm"]) > 0


def test_files(exploring, measure, tmp_path: Path) -> None:
    measure.save_as(str(tmp_path / "volumes.csv"))
    text = (tmp_path / "volumes.csv").read_text(encoding="utf-8")
    assert [row["class"] for row in csv.DictReader(io.StringIO(text))][1:] == [
        "CSF",
        "Grey matter",
        "White matter",
    ]
    measure.save_as(str(tmp_path / "volumes.json"))
    read = Measurements.model_validate_json((tmp_path / "volumes.json").read_text("utf-8"))
    assert read.image == "T1"
    assert len(read.classes[1].samples) == 20
    assert measure.banner.isHidden()
    measure.save_as(str(tmp_path / "none" / "volumes.csv"))
    assert "no folder" in measure.banner.message
    measure.save()
    assert measure.save_dialog.isVisible()
    measure.save_dialog.reject()


def test_the_dock_says_what_to_do_first(dock) -> None:
    widget = MeasureWidget(dock.viewer)
    dock.viewer.window.add_dock_widget(widget, name="Measure")
    assert not widget.welcome.isHidden()
    assert widget.sections[0].isHidden()
    widget.copy()
    dock.add_image(name="T1")
    dock.choose()
    dock.run()
    assert widget.welcome.isHidden()
    assert not widget.sections[0].isHidden()
    # An image without a voxel size has no millilitres.
    assert "voxels" in widget.subject.text()
    widget.shut_down()
    assert "measure" not in dock.widget.state.display.open_sections


def test_a_dock_that_is_opened_later_knows_what_came_before(exploring) -> None:
    first = MeasureWidget(exploring.viewer)
    assert text_of(first, 1, "range") != "–"
    exploring.settle()
    first.shut_down()


def test_with_an_mrf_the_range_is_of_what_it_refined(dock) -> None:
    widget = MeasureWidget(dock.viewer)
    dock.viewer.window.add_dock_widget(widget, name="Measure")
    dock.add_image(name="T1", scale=(2, 1, 1))
    dock.choose(prior=PriorSpec(kind="network", iterations=2))
    dock.run()
    dock.widget.state.controls.iterations = 0
    dock.settle()
    alone = table(widget)
    dock.widget.state.controls.iterations = 2
    dock.settle()
    refined = table(widget)
    assert {row["samples_are"] for row in refined} == {"as shown"}
    assert "model alone" not in widget.caption.text()
    assert [row["mean"] for row in refined] != [row["mean"] for row in alone]
    # The Explore dock shows what was counted for this one.
    spread = dock.widget.spread
    assert spread.caption.text() == "5–95 % of 20 samples"
    assert all(row.interval.text() for row in spread.rows[1:])
    # Until the next ones are counted, what is known is of the model alone, and says so.
    dock.widget.state.controls.iterations = 3
    assert "model alone" in widget.caption.text()
    assert {row["samples_are"] for row in table(widget)} <= {"model alone", ""}
    assert "no range" in spread.caption.text()
    assert not any(row.interval.text() for row in spread.rows[1:])
    dock.settle()
    assert "model alone" not in widget.caption.text()
    widget.shut_down()
