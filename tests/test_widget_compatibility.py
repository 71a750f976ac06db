"""The picture of the weights between classes in the neighbours panel."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QToolTip

from napari_structseg.controls import (
    Nudge,
)
from napari_structseg.widgets.plots.compatibility_picture import CompatibilityPicture
from neighbours_helpers import (  # noqa: F401
    WIDTH,
    classes,
    compatibility,
    n_colors,
    panel,
    pixels,
    received,
    state,
)
from tiny_models import CLASSES


def test_weights_are_folded_away_until_wanted(panel, received) -> None:
    assert panel.picture.isHidden()
    panel.weights_button.click()
    assert not panel.picture.isHidden()
    assert n_colors(panel.picture.grid) > 20
    panel.weights_button.click()
    assert panel.picture.isHidden()
    assert received == []


def test_a_pair_is_clicked_nudged_marked_and_reset(panel, received, qtbot, state) -> None:
    panel.weights_button.click()
    grid, slider = panel.picture.grid, panel.picture.slider
    assert not slider.isEnabled()
    slider.set_value(2)
    assert state.controls.nudges == ()
    slider.reset()

    qtbot.mouseClick(
        grid, Qt.MouseButton.LeftButton, pos=grid.places.cell((3, 2)).center().toPoint()
    )
    assert grid.selected == (3, 2)
    assert panel.picture.pair.text() == "White matter and Grey matter"
    before = pixels(grid)
    slider.set_value(-1.5)
    assert state.controls.nudges == (Nudge(first=2, second=3, amount=-1.5),)
    # The pair is marked in both its cells.
    for pair in ((3, 2), (2, 3)):
        cell = grid.places.cell(pair).toRect()
        window = slice(cell.top(), cell.bottom()), slice(cell.left(), cell.right())
        assert not np.array_equal(pixels(grid)[window], before[window])
        assert grid.tip(pair).endswith("Nudged to touch less by 1.50.")

    panel.picture.select(1, 1)
    assert slider.value == 0
    assert panel.picture.pair.text() == "CSF and itself"
    slider.set_value(0.5)
    panel.picture.select(2, 3)
    assert slider.value == -1.5
    assert [nudge.first for nudge in state.controls.nudges] == [1, 2]
    slider.reset_button.click()
    assert state.controls.nudges == (Nudge(first=1, second=1, amount=0.5),)
    panel.picture.clear_button.click()
    assert state.controls.nudges == ()
    assert not panel.picture.clear_button.isEnabled()
    assert len(received) == 4


def test_cells_are_reached_by_keys(panel, qtbot) -> None:
    panel.weights_button.click()
    grid = panel.picture.grid
    grid.setFocus()
    # From the top left; the background is last.
    qtbot.keyClick(grid, Qt.Key.Key_Up)
    assert grid.selected == (1, 1)
    for key in ("Right", "Right", "Right", "Right", "Down"):
        qtbot.keyClick(grid, getattr(Qt.Key, f"Key_{key}"))
    assert grid.selected == (2, 0)
    qtbot.keyClick(grid, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    assert grid.selected == (2, 0)


def test_cells_explain_themselves(panel) -> None:
    panel.weights_button.click()
    grid = panel.picture.grid
    table = np.full((4, 4, 3, 3, 3), -0.25, np.float32)
    table[2, 3] = 0.31
    table[:, :, 1, 1, 1] = 0
    panel.show_compatibility(table)
    assert grid.average((2, 3)) == pytest.approx(0.31)
    assert grid.tip((2, 3)) == (
        "Grey matter beside White matter: each such neighbour raises the log-likelihood of "
        "Grey matter by 0.31 on average."
    )
    assert "lowers the log-likelihood of CSF by 0.25" in grid.tip((1, 2))

    def shown_at(place: QPointF) -> str:
        event = QHelpEvent(
            QHelpEvent.Type.ToolTip, place.toPoint(), grid.mapToGlobal(place.toPoint())
        )
        QApplication.sendEvent(grid, event)
        return QToolTip.text()

    cell = grid.places.cell((2, 3))
    assert shown_at(cell.center()) == grid.tip((2, 3))
    assert shown_at(QPointF(5, cell.center().y())) == "Grey matter"
    assert shown_at(QPointF(cell.center().x(), 5)) == "White matter"
    QToolTip.hideText()


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("n_classes", [2, 4, 8, 12])
@pytest.mark.parametrize("width", [300, WIDTH])
def test_the_picture_fits(qtbot, dimensions, n_classes, width) -> None:
    picture = CompatibilityPicture()
    qtbot.addWidget(picture)
    picture.show_compatibility(classes(n_classes), compatibility(n_classes, dimensions))
    picture.resize(width, picture.heightForWidth(width))
    picture.show()
    assert picture.minimumSizeHint().width() <= width
    grid = picture.grid
    assert grid.height() == grid.places.height
    for pair in ((0, 0), (1, 0), (0, 1), (1, 1)):
        cell = grid.places.cell(pair)
        assert grid.rect().contains(cell.toRect())
        for corner in (0, 2):
            plane = min(corner, grid.places.n_planes - 1)
            assert cell.contains(grid.places.square(pair, plane, corner, corner))
    # What attracts is another colour than what repels.
    shown = pixels(grid)
    middles = []
    for pair in ((1, 1), (0, 1)):
        place = grid.places.square(pair, 0, 0, 0).center()
        middles.append(shown[int(place.y()), int(place.x())].astype(int))
    assert middles[0][0] > middles[0][2]
    assert middles[1][0] < middles[1][2]


def test_no_weights_no_picture(qtbot) -> None:
    picture = CompatibilityPicture()
    qtbot.addWidget(picture)
    picture.show()
    qtbot.keyClick(picture.grid, Qt.Key.Key_Right)
    qtbot.mouseClick(picture.grid, Qt.MouseButton.LeftButton)
    assert picture.grid.selected is None
    picture.show_compatibility(CLASSES, np.zeros((4, 4, 3, 3), np.float32))
    assert n_colors(picture.grid) > 5
