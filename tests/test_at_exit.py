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
