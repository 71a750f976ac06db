"""The dock with predictions of other programs, and with test-time augmentation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import napari_structseg
from dock_helpers import dock  # noqa: F401 -- a fixture
from napari_structseg import FiniteSet, LowRankNormal
from napari_structseg.cli import main
from napari_structseg.models import HeadSpec, IntensitySpec
from napari_structseg.session.state import ExplorerState
from other_programs import in_file_order, probabilities, truth, write_image, write_v2

SEEDS = (0, 1, 2)
POINT = {"head": HeadSpec(kind="point"), "intensity": IntensitySpec(kind="zscore")}


@pytest.fixture
def folds(dock) -> Path:
    """Three folds of the image that the dock has opened, in one folder."""
    dock.viewer.open(write_image(dock.folder), plugin="napari-structseg")
    for seed in SEEDS:
        write_v2(dock.folder / "folds" / f"fold_{seed}", probabilities(truth(), seed, sure=0.4))
    return dock.folder / "folds"


def choose(dock, folder: Path) -> None:
    box = dock.widget.source.model_box
    box.activated.emit(box.findText("Predictions of other programs…"))
    assert box.file_dialog.fileMode() is box.file_dialog.FileMode.Directory
    box.file_dialog.fileSelected.emit(str(folder))
    box.file_dialog.close()


def test_folds_are_explored(dock, folds) -> None:
    choose(dock, folds)
    source = dock.widget.source
    assert source.members_row.isVisibleTo(source)
    assert not source.members_row.changes.isVisibleTo(source)
    dock.run()
    assert not dock.widget.banner.message
    assert source.model_box.currentText() == "folds (predictions)"
    assert str(folds) not in source.models
    assert isinstance(dock.distribution, FiniteSet)
    assert dock.distribution.n_members == len(SEEDS)
    state = dock.widget.state
    image = dock.widget._controller.current.image
    members = [
        image.geometry.from_file(probabilities(truth(), seed, sure=0.4)).argmax(axis=0)
        for seed in SEEDS
    ]
    assert not np.array_equal(members[0], members[1])
    state.controls.sample = 1
    dock.settle()
    assert any(np.array_equal(dock.labels, one) for one in members)


def test_the_normal_moves_continuously(dock, folds) -> None:
    choose(dock, folds)
    row = dock.widget.source.members_row
    row.choice.choose("normal")
    assert dock.widget.state.source.members_as == "normal"
    dock.run()
    assert isinstance(dock.distribution, LowRankNormal)
    assert dock.distribution.rank == len(SEEDS) - 1
    dock.widget.state.controls.sample = 1
    seen = set()
    for temperature in (0.0, 0.6, 1.0, 1.7):
        dock.widget.state.controls.temperature = temperature
        dock.settle()
        seen.add(dock.labels.tobytes())
    assert len(seen) == 4
    # What is chosen is in the state, and comes back with it.
    written = dock.widget.state.model_dump_json()
    assert ExplorerState.model_validate_json(written).source.members_as == "normal"


def test_a_saved_labelling_says_how_it_is_made_again(dock, folds) -> None:
    choose(dock, folds)
    dock.widget.source.members_row.choice.choose("normal")
    dock.run()
    dock.widget.state.controls.sample = 2
    dock.settle()
    path = dock.folder / "kept.nii.gz"
    napari_structseg.explorer(dock.viewer).save(path)
    record = json.loads(path.with_name("kept.json").read_text())
    assert record["members_as"] == "normal"
    command = record["command"]
    command[command.index("--out") + 1] = str(dock.folder / "again")
    assert main(command[1:]) == 0
    again = in_file_order(dock.folder / "again" / record["command_file"])
    assert np.array_equal(again, in_file_order(path))


def test_predictions_of_another_image_are_refused(dock, folds) -> None:
    dock.add_image(name="case")
    dock.widget.source.choose_image(dock.viewer.layers["case"])
    choose(dock, folds)
    dock.run()
    assert "voxel grid of the image 'case'" in dock.widget.banner.message


def test_a_deterministic_model_is_augmented(dock) -> None:
    dock.add_image(name="T1")
    dock.choose()
    row = dock.widget.source.members_row
    assert not row.isVisibleTo(dock.widget.source)
    dock.choose(**POINT)
    assert row.isVisibleTo(dock.widget.source)
    assert not row.choice.isVisibleTo(row)
    dock.run()
    assert not dock.distribution.is_stochastic
    row.buttons["flips"].click()
    row.buttons["intensity"].click()
    assert dock.widget.state.source.augment == ("flips", "intensity")
    assert row.choice.isVisibleTo(row)
    dock.run()
    assert isinstance(dock.distribution, FiniteSet)
    assert dock.distribution.n_members == 8
    assert "test-time augmentation (flips, intensity; 8 passes)" in (
        dock.widget._controller.current.spec.name
    )
