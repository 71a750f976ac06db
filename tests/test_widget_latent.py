"""The latent pad: what is dragged is decoded, and the rest of the dock goes along."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QHelpEvent, QImage, QMouseEvent
from qtpy.QtWidgets import QApplication, QToolTip

from ambiguous import latent_disks
from dock_helpers import Dock, brain, dock  # noqa: F401 -- fixtures
from napari_structseg import render_labels
from napari_structseg.controls import LATENT_MAX, MEAN, Controls
from napari_structseg.distributions import Noise
from napari_structseg.io.weights import save_weights
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec, build_network
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import LatentSpace, Request, Show, View
from napari_structseg.session.state import ExplorerState, Mean
from napari_structseg.widgets.panels.latent_panel import LatentPanel

N_LATENTS = 3
SHAPE = (40, 48)
CLASSES = (
    ClassSpec(name="Background", color="#000000"),
    ClassSpec(name="nodule", color="#ee7a1c"),
)


def factors(seed: int, sample: int, n_latents: int = N_LATENTS) -> np.ndarray:
    return Noise(seed, sample).factors(n_latents).numpy().astype(float)


def drag(
    widget,
    *places: QPointF,
    pressed=QMouseEvent.Type.MouseButtonPress,
    button=Qt.MouseButton.LeftButton,
) -> None:
    """Press at the first place, go to the others, and let go at the last one."""
    kinds = [pressed, *[QMouseEvent.Type.MouseMove] * (len(places) - 1)]
    none = Qt.MouseButton.NoButton
    for kind, place in zip(
        [*kinds, QMouseEvent.Type.MouseButtonRelease], [*places, places[-1]], strict=True
    ):
        changed = none if kind is QMouseEvent.Type.MouseMove else button
        held = none if kind is QMouseEvent.Type.MouseButtonRelease else button
        event = QMouseEvent(
            kind,
            place,
            widget.mapToGlobal(place),
            changed,
            held,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(widget, event)


def test_the_engine_says_what_changes_the_segmentation_most() -> None:
    engine = Engine(latent_disks(SHAPE), 1.0, synchronous=True)
    results = []
    engine.result.connect(results.append)
    engine.request(Request(Controls(), View()))
    engine.request(Request(Controls(sample=2), View()))
    (space,) = [result for result in results if isinstance(result, LatentSpace)]
    assert np.allclose(space.directions @ space.directions.T, np.eye(N_LATENTS), atol=1e-6)
    # The first latent counts six times as much as the second, and the third not at all.
    assert space.directions[0] == pytest.approx([1, 0, 0], abs=0.2)
    assert space.strength[0] > 5 * space.strength[1] > 0
    assert space.strength[2] == pytest.approx(0, abs=1e-6)


@pytest.fixture
def panel(qtbot, state) -> LatentPanel:
    made = LatentPanel(state)
    qtbot.addWidget(made)
    made.set_model(N_LATENTS)
    made.show()
    return made


@pytest.fixture
def state() -> ExplorerState:
    made = ExplorerState()
    made.display.n_thumbnails = 4
    return made


@pytest.fixture
def received(state) -> list[object]:
    """Positions moved to, and samples chosen."""
    events: list[object] = []
    controls = state.controls
    controls.events.chosen.connect(lambda: events.append(controls.latent or controls.sample))
    return events


def test_dragging_moves_in_the_plane(panel, received, state) -> None:
    pad = panel.pad
    assert state.controls.latent == ()
    corner = pad.place(np.array([1.5, -2.0, 0]))
    drag(pad, pad.place(np.array([-2.6, 2.6, 0])), corner)
    assert state.controls.latent == pytest.approx((1.5, -2, 0))
    assert received[-1] == state.controls.latent
    assert panel.where.text() == "At +1.50 σ, −2.00 σ"
    # What is not painted stays as it is.
    panel.across_box.setCurrentIndex(2)
    assert panel.where.text() == "At +0.00 σ, −2.00 σ, 1.50 σ beside this plane"
    drag(pad, pad.place(np.array([0, 2.5, 1.0])))
    assert state.controls.latent == pytest.approx((1.5, 2.5, 1.0))


def test_dots_are_samples(panel, received, state) -> None:
    pad = panel.pad
    for sample in (2, 4):
        place = pad.place(factors(7, sample))
        drag(pad, place)
        assert received == [sample]
        event = QHelpEvent(
            QHelpEvent.Type.ToolTip, place.toPoint(), pad.mapToGlobal(place.toPoint())
        )
        QApplication.sendEvent(pad, event)
        assert QToolTip.text() == f"Sample {sample}"
        received.clear()
    # From a sample on, its coordinates beside the plane stay.
    state.controls.take(Controls(sample=4))
    place = pad.place(factors(7, 4))
    drag(pad, place, place + QPointF(1, 0), place + QPointF(20, 0))
    assert len(received) == 1
    assert state.controls.latent[1:] == pytest.approx(factors(7, 4)[1:])
    assert state.controls.latent[0] > factors(7, 4)[0]


def test_back_to_the_mean(panel, qtbot, state) -> None:
    pad = panel.pad
    for go_back in (
        lambda: qtbot.mouseDClick(pad, Qt.MouseButton.LeftButton, pos=QPoint(30, 40)),
        panel.mean_button.click,
        lambda: qtbot.keyClick(pad, Qt.Key.Key_Home),
    ):
        drag(pad, QPointF(30, 40))
        assert state.controls.latent
        go_back()
        assert state.controls.chosen == Mean()
        assert pad.coordinates == (0, 0)


def test_keys(panel, received, qtbot, state) -> None:
    keys = (Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Left, Qt.Key.Key_Down)
    for key in keys:
        qtbot.keyClick(panel.pad, key)
    assert state.controls.latent == pytest.approx((0.1, 0, 0))
    assert len(received) == 5
    qtbot.keyClick(panel.pad, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(panel.pad, Qt.Key.Key_A)
    assert len(received) == 5


def test_a_latent_space_that_comes_back_has_the_temperature_of_now(panel, state) -> None:
    panel.set_model(0)
    state.controls.temperature = 1.4
    panel.set_model(N_LATENTS)
    assert panel.pad._temperature == 1.4
    state.controls.temperature = 0.6
    assert panel.pad._temperature == 0.6


def test_temperature_scales_the_prior(panel, received, state) -> None:
    pad = panel.pad
    position = np.array([1.0, 0.5, 0])
    centre = pad.place(np.zeros(N_LATENTS))

    def apart() -> float:
        return (pad.place(position) - centre).x()

    at_one = apart()
    state.controls.take(Controls(temperature=1.4))
    assert apart() == pytest.approx(1.4 * at_one)
    drag(pad, pad.place(position))
    assert state.controls.latent == pytest.approx((1, 0.5, 0))
    assert pad.coordinates == pytest.approx((1.4, 0.7))
    # Two standard deviations stay in sight.
    state.controls.take(Controls(temperature=3))
    assert pad.rect().contains(pad.place(np.array([2.0, 0, 0])).toPoint())
    state.controls.take(Controls(temperature=0))
    n_received = len(received)
    drag(pad, QPointF(20, 20))
    assert len(received) == n_received
    # However far the mouse is.
    state.controls.take(Controls(temperature=0.1))
    drag(pad, QPointF(pad.width(), 0))
    assert state.controls.latent[:2] == (LATENT_MAX, LATENT_MAX)


def test_the_axes_are_two(panel) -> None:
    panel.show_space(np.eye(N_LATENTS)[[1, 0, 2]], np.array([2.0, 1.0, 0.5]))
    assert panel.across_box.currentText() == "Direction 1 · 76 %"
    assert panel.up_box.currentText() == "Direction 2 · 19 %"
    panel.across_box.setCurrentIndex(1)
    assert panel.up_box.currentIndex() == 0
    panel.up_box.setCurrentIndex(2)
    assert panel.across_box.currentIndex() == 1
    # The same space again, after a failure: what was chosen stays chosen.
    panel.show_space(np.eye(N_LATENTS)[[1, 0, 2]], np.array([2.0, 1.0, 0.5]))
    assert (panel.across_box.currentIndex(), panel.up_box.currentIndex()) == (1, 2)


def test_a_space_of_one_dimension(qtbot) -> None:
    state = ExplorerState()
    panel = LatentPanel(state)
    qtbot.addWidget(panel)
    panel.set_model(1)
    panel.show_space(np.eye(1), np.zeros(1))
    state.controls.take(Controls(sample=1))
    drag(panel.pad, QPointF(150, 20))
    assert len(state.controls.latent) == 1
    assert state.controls.latent[0] > 0.5
    assert not panel.up_box.isEnabled()


def picture_of(widget) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    pointer = image.constBits()
    pointer.setsize(image.sizeInBytes())
    rows = np.frombuffer(pointer, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def test_what_is_painted(panel, state) -> None:
    before = picture_of(panel.pad)
    state.controls.take(Controls(temperature=1.4))
    warm = picture_of(panel.pad)
    assert not np.array_equal(before, warm)
    drag(panel.pad, QPointF(30, 150))
    around = picture_of(panel.pad)[150, 30].astype(int) - warm[150, 30]
    assert np.abs(around).max() > 30


@pytest.fixture
def exploring_latents(dock: Dock) -> Dock:
    """The dock after a run of a small Probabilistic U-Net."""
    spec = ModelSpec(
        name="latent",
        dimensions=2,
        channels=("image",),
        patch=(16, 16),
        backbone=BackboneSpec(widths=(4, 8), convolutions=(1, 1)),
        head=HeadSpec(kind="latent", latent_size=N_LATENTS),
        classes=CLASSES,
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = build_network(spec)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.startswith("head."):
                    parameter.copy_(torch.randn(parameter.shape))
    path = dock.folder / "latent.safetensors"
    save_weights(path, network, spec)
    dock.add_image(brain(SHAPE), name="slice")
    dock.widget.source.choose_model(path)
    dock.run()
    assert dock.widget.is_exploring(), dock.widget.banner.message
    return dock


def test_the_slice_follows_the_position(exploring_latents, qtbot) -> None:
    dock, widget = exploring_latents, exploring_latents.widget
    pad = widget.latent.pad
    assert not widget.latent_section.isHidden()
    assert "Direction 1" in widget.latent.across_box.currentText()
    pictures = set()
    for place in (QPointF(20, 30), QPointF(160, 100), QPointF(90, 170)):
        drag(pad, place)
        dock.settle()
        controls = widget.controls
        assert controls.latent == widget.state.controls.latent != ()
        assert not any(one.isChecked() for one in widget.strip.thumbnails)
        expected = render_labels(dock.distribution, controls.noise, controls)
        assert np.array_equal(dock.labels, expected)
        pictures.add(dock.labels.tobytes())
    assert len(pictures) > 1

    # A sample, and then the mean, take its place.
    widget.strip.thumbnails[3].click()
    dock.settle()
    assert widget.controls.latent == ()
    assert pad.position == pytest.approx(factors(7, 3))
    drag(pad, QPointF(20, 30))
    dock.settle()
    assert widget.hypotheses.chosen is None
    qtbot.mouseDClick(pad, Qt.MouseButton.LeftButton, pos=QPoint(120, 30))
    dock.settle()
    assert widget.controls == Controls(class_scale=(1.0, 1.0))
    assert widget.strip.thumbnails[MEAN].isChecked()
    expected = render_labels(dock.distribution, None, widget.controls)
    assert np.array_equal(dock.labels, expected)


def test_thumbnails_stay_samples(exploring_latents) -> None:
    dock, widget = exploring_latents, exploring_latents.widget
    before = [one.picture for one in widget.strip.thumbnails]
    drag(widget.latent.pad, QPointF(20, 30))
    dock.settle()
    widget.show_panel.choose(Show.OUTLINES)
    dock.settle()
    assert all(
        one.picture == picture for one, picture in zip(widget.strip.thumbnails, before, strict=True)
    )


def test_a_new_run_begins_at_the_mean(exploring_latents) -> None:
    dock, widget = exploring_latents, exploring_latents.widget
    drag(widget.latent.pad, QPointF(20, 30))
    dock.settle()
    dock.run()
    assert widget.controls.latent == ()
    assert widget.strip.thumbnails[widget.state.controls.sample].isChecked()


def test_a_model_without_latents_has_no_pad(dock) -> None:
    dock.add_image()
    dock.choose()
    dock.run()
    assert dock.widget.latent_section.isHidden()


def test_a_double_click_that_trembles_is_none_the_less_the_mean(panel, received, state) -> None:
    pad = panel.pad
    place = QPointF(30, 40)
    double_click = QMouseEvent.Type.MouseButtonDblClick
    state.controls.sample = 2
    received.clear()
    drag(pad, place, pressed=double_click, button=Qt.MouseButton.RightButton)
    assert received == []
    drag(pad, place, pressed=double_click)
    state.controls.sample = 2
    drag(pad, place, place + QPointF(1, 0), pressed=double_click)
    assert received == [MEAN, 2, MEAN]
    drag(pad, place, place + QPointF(9, 0), pressed=double_click)
    assert received[-1] == state.controls.latent != ()


def test_an_axis_that_changes_nothing_is_not_offered(qtbot) -> None:
    state = ExplorerState()
    state.display.n_thumbnails = 0
    panel = LatentPanel(state)
    qtbot.addWidget(panel)
    panel.set_model(N_LATENTS)
    panel.show_space(np.eye(N_LATENTS), np.array([0.5, 0.3, 0.0]))
    offered = [panel.up_box.itemText(index) for index in range(panel.up_box.count())]
    assert len(offered) == 2
    assert not any("· 0 %" in text for text in offered)
    assert not panel.up_box.isHidden()
    assert panel.line_note.isHidden()
    # One dimension is used: a line, and nothing to move in across it.
    panel.show_space(np.eye(N_LATENTS), np.array([0.5, 0.004, 0.0]))
    assert panel.up_box.isHidden()
    assert not panel.line_note.isHidden()
    assert panel.pad.is_line
    middle = QPointF(panel.pad.width() / 2, panel.pad.height() / 2)
    drag(panel.pad, middle + QPointF(30, 0), middle + QPointF(30, -40))
    position = state.controls.latent
    assert position[0] > 0.5
    assert position[1:] == (0, 0)
    assert "," not in panel.where.text()
    image = QImage(panel.pad.size(), QImage.Format.Format_RGB32)
    panel.pad.render(image)
    assert panel.pad.coordinates[1] == 0
