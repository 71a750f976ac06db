"""What a user met in a real window, each in the real dock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from dock_helpers import brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.priors import PriorSpec
from napari_structseg.session.messages import Result, Show, SliceLabels
from napari_structseg.widgets.parts.names import told_apart
from tiny_models import tiny_model


@contextmanager
def held(exploring) -> Iterator[None]:
    """Let the engine give the visible slice alone, and one result more, until the end."""
    go = threading.Event()

    def hold(result: Result) -> None:
        if not isinstance(result, SliceLabels):
            go.wait(60)

    engine = exploring.widget.engine
    engine.result.connect(hold)
    try:
        yield
    finally:
        engine.result.disconnect(hold)
        go.set()


def test_volumes_of_another_sample_are_greyed_at_once(exploring) -> None:
    widget = exploring.widget
    # Of the background no volume is shown.
    rows, caption = widget.spread.rows[1:], widget.spread.caption
    assert caption.text() == "5–95 % of 20 samples"
    assert all(row.volume.is_current and row.interval.is_current for row in rows)
    before = [row.volume.text() for row in rows]
    with held(exploring):
        widget.strip.select(2)
        assert [row.volume.text() for row in rows] == before
        assert not any(row.volume.is_current for row in rows)
        assert all("Not up to date" in row.volume.toolTip() for row in rows)
        # The range is of all samples, whichever is chosen.
        assert all(row.interval.is_current for row in rows)
        assert caption.text() == "5–95 % of 20 samples · updating…"
    exploring.settle()
    assert all(row.volume.is_current for row in rows)
    assert not any("Not up to date" in row.volume.toolTip() for row in rows)
    counts = np.bincount(exploring.labels.reshape(-1), minlength=4)[1:]
    for count, row in zip(counts, rows, strict=True):
        assert row.plot.mark_ml == pytest.approx(count * 2 / 1000)
    # Back before anything is counted: what is there is right, and nothing is sent again.
    with held(exploring):
        widget.strip.select(3)
        assert not any(row.volume.is_current for row in rows)
        widget.strip.select(2)
        assert all(row.volume.is_current for row in rows)
        widget.spread.temperature_slider.set_value(2)
        assert not any(row.volume.is_current or row.interval.is_current for row in rows)
    exploring.settle()
    assert all(row.volume.is_current and row.interval.is_current for row in rows)


def test_what_is_out_of_date_looks_so(exploring) -> None:
    row = exploring.widget.spread.rows[1]
    row.resize(row.sizeHint())

    def brightest() -> int:
        picture = row.volume.grab().toImage()
        points = [(x, y) for x in range(picture.width()) for y in range(picture.height())]
        return max(picture.pixelColor(x, y).lightness() for x, y in points)

    row.show_volume(1.0)
    current = brightest()
    row.show_volume(1.0, is_current=False)
    assert brightest() < current - 40


def test_forgotten_volumes_leave_no_tooltip(exploring) -> None:
    spread = exploring.widget.spread
    spread.forget_volumes()
    for row in spread.rows[1:]:
        assert not any(
            (row.volume.text(), row.interval.text(), row.volume.toolTip(), row.interval.toolTip())
        )
    assert not spread.caption.text()


def opacities(exploring) -> set[float]:
    """Of the lines that are drawn, not of the unused ones."""
    found = np.asarray(exploring.widget.layers.lines.edge_color)[:, 3]
    return {round(float(one), 2) for one in found if one}


def test_the_chosen_sample_is_outlined_stronger(exploring) -> None:
    exploring.viewer.dims.set_current_step(0, 6)
    widget = exploring.widget
    widget.show_panel.choose(Show.OUTLINES)
    exploring.settle()
    legend = widget.show_panel.legend
    assert legend.names[0] == "Samples 1–5:"
    assert len(opacities(exploring)) == 1
    for sample in (3, 7):
        widget.strip.select(sample)
        exploring.settle()
        assert legend.names[0] == f"Samples 1–5, {sample} stronger:"
        assert max(opacities(exploring)) == 1
        assert len(opacities(exploring)) == 2
    # It is drawn over the others.
    lines = widget.layers.lines
    drawn = np.asarray(lines.edge_color)[:, 3]
    assert drawn[drawn > 0][-1] == 1


def test_the_list_follows_the_newest_image_until_one_is_chosen(dock) -> None:
    source, box = dock.widget.state.source, dock.widget.source.image_box
    dock.add_image(name="first")
    assert source.image == "first"
    dock.choose()
    dock.run()
    dock.add_image(brain(seed=1), name="second")
    assert source.image == box.currentText() == "second"
    # What is not opened now is not followed: nor are the plugin's own layers.
    dock.viewer.layers.move(2, 0)
    dock.run()
    assert source.image == "second"
    box.setCurrentIndex(box.findData("first"))
    dock.add_image(name="third")
    assert source.image == box.currentText() == "first"
    # What was chosen by hand is gone: the newest is as good as any.
    dock.viewer.layers.remove("first")
    dock.add_image(name="fourth")
    assert source.image == "fourth"


def test_an_image_that_comes_during_a_run_is_not_followed(dock) -> None:
    dock.add_image(name="first")
    dock.choose()
    dock.widget.run()
    dock.add_image(brain(seed=1), name="second")
    assert dock.widget.state.source.image == "first"
    dock.settle()
    assert dock.widget.state.source.image == "first"


def test_models_of_one_name_are_told_apart(dock) -> None:
    source = dock.widget.source
    paths = [dock.folder / folder / "best.safetensors" for folder in ("a", "b", "b/a")]
    texts = []
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        tiny_model(path)
        source.choose_model(path)
        texts.append(source.model_box.currentText())
    # Alone, a name is enough; then as many folders as it takes.
    assert texts == ["best", "b/best", "b/a/best"]
    by_path = {source.model_box.itemData(i): i for i in range(source.model_box.count())}
    listed = [source.model_box.itemText(by_path[str(path)]) for path in paths]
    assert listed == [f"{dock.folder.name}/a/best", "b/best", "b/a/best"]
    assert source.model_box.currentText() == "b/a/best"


def test_names_of_models() -> None:
    assert told_apart(["brain", "/x/brain.safetensors"]) == ["brain", "x/brain"]
    assert told_apart(["/x/p.nii.gz", "/y/p.nii.gz"]) == [
        "x/p (probabilities)",
        "y/p (probabilities)",
    ]
    # Nothing more to tell them by.
    assert told_apart(["/p.nii", "/p.nii.gz"]) == ["p (probabilities)"] * 2


def test_the_line_below_the_thumbnails_keeps_its_place(exploring) -> None:
    strip, neighbours = exploring.widget.strip, exploring.widget.neighbours
    assert strip.alone_note.isHidden()
    exploring.choose(prior=PriorSpec(iterations=3))
    exploring.run()
    # By now the MRF has refined what they show; before, the line says that: test_widget_refined.py.
    assert not strip.alone_note.text()
    neighbours.iteration_slider.set_value(0)
    exploring.settle()
    assert not strip.alone_note.text()
    assert not strip.alone_note.isHidden()
    # Empty, it keeps its place; see test_a_note_that_comes_moves_no_slider.
    assert strip.alone_note.minimumHeight() == strip.alone_note.maximumHeight() > 0
