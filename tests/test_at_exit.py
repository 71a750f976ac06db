"""How Python ends while workers still have something to let go of."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import threading

import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import PointLogits
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import Request, View
from napari_structseg.widgets.threads.at_exit import rest_at_exit


goes = threading.Event()


class Slow:
    # Stands for gigabytes of tensors.
    def __del__(self):
        goes.set()
        threading.Event().wait(1)
        sys.stdout.write("let go")
        sys.stdout.flush()


engine = Engine(PointLogits(torch.zeros(2, 8, 8, 8)), 1.0)
engine.slow = Slow()
rest_at_exit(engine)
engine.request(Request(Controls(), View()))
if sys.argv[1] == "closed":
    engine.close()
    del engine
    goes.wait(60)
"""


@pytest.mark.parametrize("state", ["closed", "open"])
def test_python_waits_until_a_worker_has_let_go(state: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, state],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "let go"


WINDOW = """
import atexit
import sys

import napari
from qtpy.QtWidgets import QApplication

from napari_structseg.widgets.explore import ExploreWidget

gone = []
# Called before PyQt deletes what is left, and after all that is registered later.
atexit.register(lambda: sys.stdout.write("deleted " + gone[0] if gone else "left to PyQt"))
viewer = napari.Viewer(show=True)
dock = ExploreWidget(viewer)
viewer.window.add_dock_widget(dock)
while not dock.isVisible():
    QApplication.processEvents()
window = dock.window()
state = "when closed"
window.destroyed.connect(lambda: gone.append(state))
if sys.argv[1] == "let go":
    del window
viewer.close()
state = "at exit"
"""


@pytest.mark.parametrize(
    ("held", "deleted"), [("let go", "deleted when closed"), ("held", "deleted at exit")]
)
def test_a_closed_window_is_deleted_without_an_event_loop(held: str, deleted: str) -> None:
    # Left to PyQt it ended in a segmentation fault, depending on where things lay in memory.
    ended = subprocess.run(
        [sys.executable, "-c", WINDOW, held],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == deleted
