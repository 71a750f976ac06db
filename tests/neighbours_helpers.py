"""The neighbours panel with a state, curves and weights to show, for its tests."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QImage, QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_structseg.controls import (
    Controls,
)
from napari_structseg.models import ClassSpec
from napari_structseg.priors import EnergyPrior
from napari_structseg.refine.convergence import Convergence
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.panels.neighbours_panel import NeighboursPanel
from tiny_models import CLASSES

WIDTH = 370
CONTROLS = {f"controls.{name}" for name in Controls.model_fields}
N_ITERATIONS = 12


def pixels(widget) -> np.ndarray:
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    pointer = image.constBits()
    pointer.setsize(image.sizeInBytes())
    rows = np.frombuffer(pointer, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def n_colors(widget) -> int:
    picture = pixels(widget)
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def compatibility(n_classes: int = len(CLASSES), dimensions: int = 3) -> np.ndarray:
    """The weights of a prior for which unlike classes repel."""
    return EnergyPrior(dimensions, n_classes).compatibility().numpy()


def classes(n_classes: int) -> tuple[ClassSpec, ...]:
    return tuple(
        ClassSpec(name=f"structure {label}", color=f"#{40 + 17 * label:02x}80a0")
        for label in range(n_classes)
    )


def convergence(*, with_energy: bool = True) -> Convergence:
    iterations = np.arange(1, N_ITERATIONS + 1)
    return Convergence(
        residual=0.5 * 0.4**iterations,
        changed=np.where(iterations < 9, 0.1 * 0.3**iterations, 0),
        free_energy=1234.5 + 100 * 0.5**iterations if with_energy else None,
    )


def wheel(widget, delta: int) -> None:
    place = QPointF(5, 5)
    event = QWheelEvent(
        place,
        widget.mapToGlobal(place),
        QPoint(),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


@pytest.fixture
def state() -> ExplorerState:
    made = ExplorerState()
    made.controls.iterations = 10
    return made


@pytest.fixture
def panel(qtbot, state) -> NeighboursPanel:
    """The panel with a prior used with ten iterations."""
    made = NeighboursPanel(state)
    qtbot.addWidget(made)
    qtbot.addWidget(made.reset_button)
    made.set_model(CLASSES, iterations=10)
    made.show_compatibility(compatibility())
    made.resize(WIDTH, 500)
    made.show()
    return made


@pytest.fixture
def received(state) -> list[int]:
    """The iterations at each action."""
    changes: list[int] = []

    def hear(touched: frozenset[str]) -> None:
        if touched & {"display.stop_when_converged", *CONTROLS}:
            changes.append(state.controls.iterations)

    state.settled.connect(hear)
    return changes
