"""Sessions on disk: what is written comes back, and what cannot be written is said."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from correction_helpers import (
    CLASSES,
    SHAPES,
    act_or_undo,
    everything,
    identity_of,
    labelling,
    next_event,
    small_image,
    snapshot,
)
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.differences import VolumeDifference
from napari_structseg.correction.entries import Entry, Event
from napari_structseg.correction.folders import find_sessions, look_at, remove, sessions_root
from napari_structseg.correction.identity import identify
from napari_structseg.correction.journal import JOURNAL_NAME, read_work
from napari_structseg.correction.records import Kind, outline_of, record_parts
from napari_structseg.errors import InputError
from napari_structseg.session.state import ExplorerState


def begun(root: Path, **kwargs: int) -> tuple[Correction, Autosave]:
    correction = Correction(SHAPES[0], len(CLASSES))
    return correction, Autosave(correction, identity_of(), CLASSES, root=root, **kwargs)


def folder_of(autosave: Autosave) -> Path:
    assert autosave.flush(60)
    assert autosave.folder is not None
    return autosave.folder


@pytest.mark.parametrize("shorten_beyond", [0, 10**9])
def test_what_is_written_comes_back(shorten_beyond: int, tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path, shorten_beyond=shorten_beyond)
    random = np.random.default_rng(1)
    state = ExplorerState()
    for number in range(250):
        act_or_undo(correction, random)
        state.controls.sample = number + 1
        autosave.note(state=state.model_dump_json())
        if number % 50 == 0:
            folder = folder_of(autosave)
            assert everything(read_work(folder).correction) == everything(correction)
    autosave.note(recipe='{"model": "tiny"}')
    folder = folder_of(autosave)
    work = read_work(folder)
    assert everything(work.correction) == everything(correction)
    assert ExplorerState.model_validate_json(work.state or "") == state
    assert work.recipe == '{"model": "tiny"}'
    assert work.header.image == identity_of()
    assert work.header.classes == CLASSES
    assert work.n_lost_bytes == 0
    assert autosave.close(60)
    assert sorted(path.name for path in folder.iterdir()) == [JOURNAL_NAME, "lock"]


def test_a_reopened_session_goes_on(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    for number in range(12):
        next_event(correction, 5, number)
    folder = folder_of(autosave)
    with pytest.raises(InputError, match="Another program"):
        Autosave.reopen(folder)
    autosave.close()
    again, work = Autosave.reopen(folder)
    assert everything(work.correction) == everything(correction)
    for number in range(12, 20):
        next_event(correction, 5, number)
        next_event(work.correction, 5, number)
    again.close()
    assert everything(read_work(folder).correction) == everything(correction)
    assert len(find_sessions(tmp_path)) == 1


def test_only_unsaved_work_is_offered_and_only_for_its_image(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    assert not autosave.is_unsaved
    assert autosave.flush(60)
    assert find_sessions(tmp_path) == []
    correction.accept(labelling(0), name="accept")
    assert autosave.is_unsaved
    folder = folder_of(autosave)
    (found,) = find_sessions(tmp_path, identity_of())
    assert (found.folder, found.n_unsaved > 0, found.is_open) == (folder, True, True)
    assert not found.is_recoverable

    # A labelling that is saved while the next action is already there leaves that one unsaved.
    autosave.note_saved()
    correction.paint(np.array([1]), 3 - int(correction.result.labels.flat[1]))
    autosave.flush()
    assert autosave.is_unsaved == look_at(folder).n_unsaved > 0
    autosave.close()
    assert look_at(folder).is_recoverable
    assert find_sessions(tmp_path, identity_of(seed=1)) == []

    again, _ = Autosave.reopen(folder)
    assert again.is_unsaved
    again.note_saved()
    assert again.flush(60)
    assert not again.is_unsaved
    again.close()
    (found,) = find_sessions(tmp_path)
    assert not found.is_recoverable
    assert snapshot(read_work(folder).correction) == snapshot(correction)


def test_a_discarded_session_leaves_nothing(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    correction.accept(labelling(0), name="accept")
    folder_of(autosave)
    autosave.discard()
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_known_by_its_voxels_and_not_by_its_name() -> None:
    image = small_image()
    one = identify(image, "some/where.nii.gz")
    renamed = identify(type(image).from_array(image.data[0], spacing=(2, 1, 1), name="other"))
    changed = image.data[0].copy()
    changed[2, 3, 4] += 1
    other = identify(type(image).from_array(changed, spacing=(2, 1, 1), name="scan"))
    assert one.is_of_same_image(renamed)
    assert not one.is_of_same_image(other)
    assert one.path == str(Path("some/where.nii.gz").absolute())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with several actions behind its snapshot."""
    correction, autosave = begun(tmp_path)
    for number in range(8):
        next_event(correction, 7, number)
        # So that the snapshot holds one action, and every record another one.
        assert autosave.flush(60)
    folder = folder_of(autosave)
    autosave.close()
    return folder / JOURNAL_NAME


def test_a_journal_that_is_cut_anywhere_holds_what_was_before(journal: Path) -> None:
    whole = journal.read_bytes()
    with journal.open("rb") as file:
        records = list(outline_of(file, journal))
    ends = [start for _, start in records[1:]] + [len(whole)]
    expected = Correction(SHAPES[0], len(CLASSES))
    states = [everything(expected.copy())]
    for number in range(8):
        next_event(expected, 7, number)
        states.append(everything(expected.copy()))
    for cut in [*range(0, len(whole), 97), *ends, *(end - 1 for end in ends)]:
        journal.write_bytes(whole[:cut])
        # The snapshot holds the first action.
        n_actions = sum(
            kind in (Kind.SNAPSHOT, Kind.ACTION) and end <= cut
            for (kind, _), end in zip(records, ends, strict=True)
        )
        if n_actions == 0:
            with pytest.raises(InputError, match="cannot be read"):
                read_work(journal.parent)
            continue
        work = read_work(journal.parent)
        assert everything(work.correction) == states[n_actions]
        assert work.number == n_actions


class Newer(BaseModel):
    format_version: int = 2


def test_another_version_is_refused_clearly(journal: Path) -> None:
    whole = journal.read_bytes()
    with journal.open("rb") as file:
        (_, first), (_, second), *_ = outline_of(file, journal)
    journal.write_bytes(
        whole[:first] + b"".join(record_parts(Kind.HEADER, Newer())) + whole[second:]
    )
    with pytest.raises(InputError, match="format_version"):
        read_work(journal.parent)
    found = look_at(journal.parent)
    assert found.header is None
    assert "format_version" in str(found.error)


def test_a_session_of_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no session folder"):
        Autosave.reopen(tmp_path / "none")
    with pytest.raises(InputError, match="Cannot read the session"):
        read_work(tmp_path)
    (tmp_path / JOURNAL_NAME).write_text("no journal")
    with pytest.raises(InputError, match="does not begin"):
        Autosave.reopen(tmp_path)
    # The lock was let go of.
    assert not look_at(tmp_path).is_open


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_reported_and_the_work_is_written_later(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    errors: list[Exception] = []
    autosave.failed.connect(errors.append)
    next_event(correction, 3, 0)
    folder = folder_of(autosave)
    before = everything(correction)
    with full_disk((folder / JOURNAL_NAME).stat().st_size + 20):
        for number in range(1, 4):
            next_event(correction, 3, number)
            assert autosave.flush(60)
            assert "Check that the disk has room" in str(errors[-1])
            # What was written before is as it was.
            assert everything(read_work(folder).correction)[:1] == before[:1]
    assert len(errors) == 3
    next_event(correction, 3, 4)
    assert autosave.flush(60)
    assert len(errors) == 3
    assert everything(read_work(folder).correction) == everything(correction)


def test_an_action_that_could_not_be_followed_spoils_nothing_after_it(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    errors: list[Exception] = []
    autosave.failed.connect(errors.append)
    next_event(correction, 3, 0)
    folder = folder_of(autosave)
    half = VolumeDifference((0, 0, 0), SHAPES[0], (b"no zlib",))
    correction.recorded.emit(Event("do", Entry("half of an action", labels=half)))
    assert autosave.flush(60)
    assert "damaged" in str(errors[0])
    assert everything(read_work(folder).correction) == everything(correction)
    for number in range(1, 4):
        next_event(correction, 3, number)
    assert autosave.flush(60)
    assert len(errors) == 1
    assert everything(read_work(folder).correction) == everything(correction)


def test_what_was_saved_before_the_last_action_leaves_that_one_unsaved(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    for number in range(3):
        next_event(correction, 3, number)
    n_then = autosave.number
    next_event(correction, 3, 3)
    autosave.note_saved(n_then)
    folder = folder_of(autosave)
    assert autosave.is_unsaved
    assert look_at(folder).n_unsaved == 1
    next_event(correction, 3, 4)
    assert autosave.flush(60)
    assert look_at(folder).n_unsaved == 2
    autosave.close()
    again, work = Autosave.reopen(folder)
    assert (work.saved, work.number, again.is_unsaved) == (3, 5, True)
    # Written as a whole.
    again.note_saved(4)
    again.close()
    assert look_at(folder).n_unsaved == 1


def test_a_session_that_is_open_is_not_removed(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    next_event(correction, 3, 0)
    folder = folder_of(autosave)
    with pytest.raises(InputError, match="Another program"):
        remove(folder)
    autosave.close()
    remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_has_room_again_at_the_end_gets_all(tmp_path: Path) -> None:
    correction, autosave = begun(tmp_path)
    with full_disk(30):
        next_event(correction, 3, 0)
        assert autosave.flush(60)
    assert autosave.close(60)
    assert autosave.folder is not None
    assert everything(read_work(autosave.folder).correction) == everything(correction)


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from correction_helpers import CLASSES, SHAPES, identity_of, next_event
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
root = Path(sys.argv[1])
if os.geteuid() == 0:
    # The administrator may write anywhere.
    os.chown(root, 65534, 65534)
    os.seteuid(65534)
correction = Correction(SHAPES[0], len(CLASSES))
autosave = Autosave(correction, identity_of(), CLASSES, root=root)
autosave.failed.connect(lambda error: print(error))
for number, mode in enumerate((0o500, 0o500, 0o700)):
    root.chmod(mode)
    next_event(correction, 3, number)
    assert autosave.flush(60)
assert autosave.close(60)
print(autosave.folder)
"""


@pytest.mark.skipif(os.name != "posix", reason="other rights")
def test_a_folder_that_may_not_be_written_to_is_reported_and_tried_again() -> None:
    with tempfile.TemporaryDirectory() as root:
        finished = subprocess.run(
            [sys.executable, "-c", READ_ONLY, root, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        *errors, folder = finished.stdout.splitlines()
        assert [error.startswith("Cannot make the session folder") for error in errors] == [
            True
        ] * 2
        assert "you may write there" in errors[0]
        expected = Correction(SHAPES[0], len(CLASSES))
        for number in range(3):
            next_event(expected, 3, number)
        assert everything(read_work(Path(folder)).correction) == everything(expected)


def test_a_root_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("no folder")
    correction, autosave = begun(tmp_path / "root")
    errors: list[Exception] = []
    autosave.failed.connect(errors.append)
    next_event(correction, 3, 0)
    assert autosave.flush(60)
    assert "STRUCTSEG_SESSIONS" in str(errors[0])


def test_the_folder_of_sessions_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRUCTSEG_SESSIONS", "~/some/where")
    assert sessions_root() == Path.home() / "some" / "where"
    monkeypatch.delenv("STRUCTSEG_SESSIONS")
    assert sessions_root().parts[-2:] == ("napari-structseg", "sessions")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_killed_process_leaves_a_whole_session_that_lacks_the_last_action_at_most(
    tmp_path: Path,
) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.kill_sessions", "--kills", "8", "--root", str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "8 kills" in finished.stdout
