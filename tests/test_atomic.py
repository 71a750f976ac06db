from __future__ import annotations

from pathlib import Path

import pytest

from napari_structseg.errors import InputError
from napari_structseg.io.atomic import atomic_path


def fail_half_way(path: Path) -> None:
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("half of the new")
        raise RuntimeError("half way")


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_successful_write_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"there is no folder .*missing. Create it"),
        atomic_path(tmp_path / "missing" / "report.json"),
    ):
        pytest.fail("the block must not run")


def test_refusal_by_the_system_is_a_readable_error(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with (
        pytest.raises(InputError, match=r"Cannot write .*report.json: .*choose another folder"),
        atomic_path(tmp_path / "report.json") as temporary,
    ):
        temporary.write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
