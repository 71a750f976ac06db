"""Versions that were adopted: nothing of them is lost, and going back is exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_helpers import ball_model, ball_settings
from napari_structseg.cli import main
from napari_structseg.errors import ConfigError, InputError, WeightsError
from napari_structseg.finetuning.comparison import compare
from napari_structseg.finetuning.events import Ended
from napari_structseg.finetuning.families import adopt_run, families, versions_of
from napari_structseg.finetuning.folders import note_ended
from napari_structseg.finetuning.report import read_report
from napari_structseg.finetuning.run import PARENT_NAME, TUNED_NAME, finetune
from napari_structseg.finetuning.versions import CURRENT_NAME, RECORD_NAME, Versions
from napari_structseg.io.weights import load_weights


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "versions"
    monkeypatch.setenv("STRUCTSEG_VERSIONS", str(folder))
    return folder


def tuned(tmp_path: Path, name: str, model: Path, **fields) -> Path:
    settings = ball_settings(tmp_path, model=str(model), steps=2, validate_every=2, **fields)
    finetune(settings, tmp_path / name)
    return tmp_path / name


def everything(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*.*"))}


def test_each_adopted_version_is_kept_with_where_it_comes_from(tmp_path: Path, root: Path) -> None:
    model = ball_model(tmp_path)
    original = model.read_bytes()
    first = adopt_run(tuned(tmp_path, "one", model), note="one case")
    second = adopt_run(tuned(tmp_path, "two", first.weights, seed=1))
    # The user's own file is no longer needed.
    model.unlink()
    (family,) = families()
    kept = family.all()
    assert [one.record.number for one in kept] == [0, 1, 2]
    assert kept[0].weights.read_bytes() == original
    assert kept[1].record.parent == kept[0].record.sha256
    assert kept[2].record.parent == kept[1].record.sha256
    assert kept[1].record.note == "one case"
    assert kept[1].record.settings.steps == 2
    assert kept[1].record.corrections.before is not None
    assert family.current == second
    assert versions_of(second.weights).folder == family.folder


def test_runs_that_are_done_are_listed_and_deleted(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setenv("STRUCTSEG_FINETUNING", str(runs))
    runs.mkdir()
    model = ball_model(tmp_path)
    names = [f"20260101-00000{number}-0000000{number}" for number in range(1, 5)]
    kept, other, failed, going_on = (runs / name for name in names)
    for folder in (kept, other):
        tuned(runs, folder.name, model, seed=int(folder.name[-1]))
    version = adopt_run(kept)
    for folder, reason in ((failed, "diverged"), (going_on, "cancelled")):
        tuned(runs, folder.name, model, seed=int(folder.name[-1]))
        read_report(folder).model_copy(update={"weights": None}).write(folder)
        note_ended(folder, Ended(reason=reason))
    # What is no run of ours is not looked at.
    (runs / "mine").mkdir()
    (runs / "mine" / "notes.txt").write_text("mine")

    def rows(*more: str) -> dict[str, dict[str, object]]:
        capsys.readouterr()
        assert main(["versions", "runs", "--json", *more]) == 0
        found = json.loads(capsys.readouterr().out)
        return {Path(one["folder"]).name: one for one in found}

    listed = rows()
    assert set(listed) == {kept.name, other.name, failed.name}
    assert [listed[one.name]["adopted"] for one in (kept, other, failed)] == [True, False, False]
    assert listed[kept.name]["bytes"] > model.stat().st_size
    assert main(["versions", "runs"]) == 0
    printed = capsys.readouterr().out
    assert "finished, not adopted" in printed
    assert "deletes 2 of 3" in printed
    rows("--prune")
    assert [one.exists() for one in (kept, other, failed, going_on)] == [False, True, False, True]
    rows("--prune", "--unadopted")
    assert [one.exists() for one in (other, going_on)] == [False, True]
    assert (runs / "mine" / "notes.txt").exists()
    assert version.checked_weights().is_file()
    assert main(["versions", "runs"]) == 0
    assert "No run is there" in capsys.readouterr().out


def test_going_back_is_exact(tmp_path: Path, root: Path) -> None:
    model = ball_model(tmp_path)
    run = tuned(tmp_path, "one", model)
    version = adopt_run(run)
    family = versions_of(model)
    assert version.weights.read_bytes() == (run / TUNED_NAME).read_bytes()
    before = everything(family.folder)
    back = family.go_back()
    assert back.weights.read_bytes() == model.read_bytes()
    assert family.current == back
    # Nothing but the choice has changed, and it can be made again.
    after = everything(family.folder)
    assert {name for name in after if after[name] != before[name]} == {CURRENT_NAME}
    family.use(version)
    assert everything(family.folder) == before
    family.go_back()
    with pytest.raises(ConfigError, match="nothing to go back to"):
        family.go_back()


def test_a_model_that_was_fine_tuned_from_an_older_version_gets_a_number_of_its_own(
    tmp_path: Path, root: Path
) -> None:
    model = ball_model(tmp_path)
    adopt_run(tuned(tmp_path, "one", model))
    family = versions_of(model)
    other = adopt_run(tuned(tmp_path, "two", model, seed=5))
    assert other.record.number == 2
    assert family.go_back().record.number == 0


def test_versions_are_compared(tmp_path: Path, root: Path) -> None:
    model = ball_model(tmp_path)
    first = adopt_run(tuned(tmp_path, "one", model, what="head"))
    original = versions_of(model).find(0)
    found = compare(original, first)
    assert 0 < found.n_changed < found.n_tensors
    assert 0 < found.distance < found.norm
    same = compare(first, first)
    assert (same.n_changed, same.distance) == (0, 0)


def test_a_version_is_exported_as_a_model(tmp_path: Path, root: Path) -> None:
    model = ball_model(tmp_path)
    version = adopt_run(tuned(tmp_path, "one", model))
    family = versions_of(model)
    out = family.export(version, tmp_path / "mine.safetensors")
    assert out.read_bytes() == version.weights.read_bytes()
    _, spec = load_weights(out)
    assert spec.training.initial == version.record.parent
    assert "fine-tuned" in spec.training.data
    # Nothing of the user's folders goes with it.
    assert str(tmp_path) not in spec.model_dump_json()
    with pytest.raises(InputError, match="exists already"):
        family.export(version, out)


def test_what_was_changed_is_not_used(tmp_path: Path, root: Path) -> None:
    model = ball_model(tmp_path)
    version = adopt_run(tuned(tmp_path, "one", model))
    family = versions_of(model)
    family.go_back()
    version.weights.write_bytes(version.weights.read_bytes() + b" ")
    for use in (family.use, lambda one: family.export(one, tmp_path / "x.safetensors")):
        with pytest.raises(WeightsError, match="not the file that was adopted"):
            use(version)
    assert family.current.record.number == 0
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("name", [TUNED_NAME, PARENT_NAME])
def test_a_run_that_is_not_whole_is_not_adopted(tmp_path: Path, root: Path, name: str) -> None:
    run = tuned(tmp_path, "one", ball_model(tmp_path))
    (run / name).write_bytes(b"other")
    with pytest.raises(InputError):
        adopt_run(run)
    assert families() == []


def test_damaged_records_do_not_hide_the_others(tmp_path: Path, root: Path) -> None:
    model = ball_model(tmp_path)
    version = adopt_run(tuned(tmp_path, "one", model))
    (version.folder / RECORD_NAME).write_text("{")
    family = versions_of(model)
    assert [one.record.number for one in family.all()] == [0]
    with pytest.raises(InputError, match="that can be used"):
        _ = family.current
    with pytest.raises(InputError, match="that can be used"):
        _ = Versions(tmp_path / "nothing").current


def test_commands(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ball_model(tmp_path)
    run = tuned(tmp_path, "one", model)

    def said(*words: str) -> str:
        assert main(["versions", *words]) == 0
        return capsys.readouterr().out

    assert "No version" in said("list")
    assert "In use: version 1" in said("adopt", str(run))
    rows = json.loads(said("list", str(model), "--json"))
    assert [(row["number"], row["in_use"]) for row in rows] == [(0, False), (1, True)]
    assert "tensors differ" in said("compare", str(model), "0", "1")
    assert "version 0" in said("back", str(model))
    assert "version 1" in said("use", str(model), "1")
    assert "* low_rank 1" in said("list")
    out = tmp_path / "mine.safetensors"
    said("export", str(model), "1", "--out", str(out))
    assert out.exists()
    assert main(["versions", "use", str(model), "9"]) == 2
    assert "There are: 0, 1" in capsys.readouterr().err
