"""Whether a window can be opened, asked before Qt ends the program over it."""

from __future__ import annotations

import os
import subprocess
import sys

from napari_structseg.errors import ConfigError

_PROBE = "from qtpy.QtWidgets import QApplication; QApplication([])"
_NO_DRAWING = ("offscreen", "minimal", "vnc")
_VIRTUAL = "xvfb-run -a -s '-screen 0 1920x1200x24' structseg ..."


def check_screen() -> None:
    """Raise unless napari can open a window and draw in it.

    Raises
    ------
    ConfigError
        If there is no screen, Qt is missing or cannot use the screen, or Qt is told to use a
        platform without OpenGL.
    """
    platform = os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0]
    if platform in _NO_DRAWING:
        raise ConfigError(
            f"Qt's platform {platform!r} (QT_QPA_PLATFORM) cannot draw with OpenGL, which napari "
            f"needs. Unset it, and use a virtual screen: {_VIRTUAL}"
        )
    on_linux = sys.platform.startswith("linux")
    if on_linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError(
            "There is no screen (DISPLAY is not set), and napari needs one to draw on. Run this "
            f"where there is one, or on a virtual one: {_VIRTUAL} (Debian and Ubuntu: apt-get "
            "install xvfb xauth)."
        )
    # Where it cannot open a window, Qt does not raise: it aborts.
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False
    )
    if probe.returncode == 0:
        return
    if "QtBindingsNotFoundError" in probe.stderr:
        raise ConfigError(
            'There is no Qt for napari\'s window. Run: pip install "napari-structseg[all]"'
        )
    said = " ".join(probe.stderr.split())
    raise ConfigError(f"Qt cannot open a window here: {said or f'code {probe.returncode}'}")
