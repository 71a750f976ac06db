"""The tutorials, from the first block to the last: scripts, commands of the terminal and Python.

A block with a title is a file that the reader saves. Shipped models stand for tiny ones, and
training takes two steps; everything else is as on the page.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QWidget

from conftest import REPOSITORY
from dock_helpers import brain, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.cli import main
from napari_structseg.widgets.correct import make_correct_widget
from napari_structseg.widgets.explorer import DOCK_NAME
from napari_structseg.widgets.measure_dock import make_measure_widget
from other_programs import probabilities, truth, write_image, write_v2
from test_docs import TUTORIALS, with_files, with_tiny_models

_BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
# Programs that other people wrote, or files as text.
_SHOWN = {"text"}


def run(page: str, **names: object) -> dict[str, object]:
    """Follow a tutorial in the working folder; what its Python has named."""
    text = (REPOSITORY / "docs" / "tutorials" / page).read_text(encoding="utf-8")
    session = dict(names)
    for language, title, code in _BLOCK.findall(text):
        if title:
            Path(title).write_text(re.sub(r"^steps = \d+", "steps = 2", code, flags=re.MULTILINE))
        elif language == "python":
            exec(compile(with_tiny_names(code), page, "exec"), session)
        elif language == "bash":
            for words in commands(code):
                run_command(words)
        else:
            assert language in _SHOWN
    return session


def with_tiny_names(code: str) -> str:
    return code.replace('"brain-tissue"', '"brain-tissue.safetensors"')


def commands(code: str) -> Iterator[list[str]]:
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run_command(words: list[str]) -> None:
    program, *rest = words
    if program == "python":
        runpy.run_path(rest[0], run_name="__main__")
    elif program == "pytest":
        # A session of its own, without this project's settings and plugins.
        finished = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *rest],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
        assert finished.returncode == 0, finished.stdout
        assert " passed" in finished.stdout
    else:
        assert program == "structseg"
        # It opens a window that stays: tests/test_demo.py runs it.
        if rest != ["demo"]:
            assert main([with_tiny_models(word) for word in rest]) == 0, shlex.join(words)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def viewer(make_napari_viewer_proxy, folder: Path):
    """A viewer with the image that the pages name, and what they open closed at the end."""
    made = make_napari_viewer_proxy()
    made.add_image(brain(), name="MNI152 T1")
    yield made
    (widget,) = (one for name, one in made.window.dock_widgets.items() if name == DOCK_NAME)
    widget.shut_down()


def test_every_tutorial_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    names = {Path(page).name for page in TUTORIALS}
    assert names
    assert {name for name in names if f'run("{name}"' not in source} == set()


def test_alternatives_and_a_report(folder: Path) -> None:
    with_files(folder)
    run("alternatives-and-report.md")
    assert "<svg" in (folder / "results" / "report.html").read_text(encoding="utf-8")


def test_correct_and_save(folder: Path, viewer) -> None:
    with_files(folder)
    named = run("correct-and-save.md", viewer=viewer)
    assert named["explorer"].labels()[6, 10, 8] == 3
    assert (folder / "corrected.nii.gz").is_file()
    assert (folder / "corrected" / "sample-010.nii.gz").is_file()


def test_train_on_your_data(folder: Path) -> None:
    named = run("train-on-your-data.md")
    assert len(named["sizes"]) == 20
    assert (folder / "result.json").is_file()


def test_bring_your_nnunet(folder: Path) -> None:
    write_image(folder)
    folds = [probabilities(truth(), seed) for seed in range(3)]
    for number, maps in enumerate(folds):
        write_v2(folder / "folds" / f"fold_{number}", maps)
    run("bring-your-nnunet.md")
    assert (folder / "members" / "report.html").is_file()
    assert len([*(folder / "fitted").glob("sample-*.nii.gz")]) == 20


def test_a_new_distribution(folder: Path, viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    named = run("new-distribution.md", viewer=viewer)
    assert set(np.unique(named["labels"])) == {0, 1}
    sys.modules.pop("heavy_tail")


def texts(widget: QWidget) -> Iterator[str]:
    """What can be read in a dock."""
    for one in widget.findChildren(QWidget):
        if isinstance(one, QAbstractButton | QLabel):
            yield one.text()
        if isinstance(one, QComboBox):
            yield from (one.itemText(at) for at in range(one.count()))


def test_what_the_tutorials_name_stands_in_the_window(exploring) -> None:
    docks = {
        "Correct the segmentation": make_correct_widget(exploring.viewer),
        "Measure the segmentation": make_measure_widget(exploring.viewer),
    }
    for name, widget in docks.items():
        exploring.viewer.window.add_dock_widget(widget, name=name)
    read = {text for one in (exploring.widget, *docks.values()) for text in texts(one)}
    manifest = yaml.safe_load((REPOSITORY / "napari.yaml").read_text(encoding="utf-8"))
    titles = {one["display_name"] for one in manifest["contributions"]["widgets"]}
    for page in TUTORIALS:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        for bold in re.findall(r"\*\*([^*]+)\*\*", _BLOCK.sub("", text)):
            named = " ".join(bold.split())
            if named.startswith("Layers ▸ Segment ▸ "):
                assert any(title.startswith(named.split(" ▸ ")[2]) for title in titles), (
                    page,
                    named,
                )
            elif named[0].isupper():
                assert named in read, (page, named)
    for widget in docks.values():
        widget.shut_down()
