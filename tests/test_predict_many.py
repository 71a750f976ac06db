"""`structseg predict` on a folder or a list: one folder for each case, one table of all."""

from __future__ import annotations

import csv
import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.interrupts import Terminated
from napari_structseg.many import run as many
from napari_structseg.many.cases import Case, Part, find_cases
from napari_structseg.many.tables import Tables
from napari_structseg.many.work import Outcome, is_done, opened
from napari_structseg.results.request import make_request
from nifti_files import save
from predict_helpers import blob, model, run, voxels  # noqa: F401
from tiny_models import tiny_model

SHAPE = (10, 9, 8)
FILES = {"mean.nii.gz", "sample-001.nii.gz", "entropy.nii.gz", "volumes.csv", "recipe.json"}


# In this process, whatever the machine has: the order of cases is known. Several processes are
# tested in test_predict_workers.py.
predict_many = partial(many.predict_many, workers=1)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three cases, in a folder that also holds what is no image."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate(("c", "a", "b")):
        save(folder / f"{name}.nii.gz", blob(*SHAPE, seed=seed))
    (folder / "notes.txt").write_text("mine")
    (folder / "._a.nii.gz").write_bytes(b"of macOS")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


def contents(folder: Path) -> dict[str, object]:
    """Every file of a folder, as what it says."""
    return {
        str(path.relative_to(folder)): voxels(path).tobytes()
        if path.suffix == ".gz"
        else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "recipe.json"
    }


def test_each_case_has_the_files_of_a_single_prediction(
    images: Path, model: Path, tmp_path: Path, capsys
) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    options = ("--model", model, "--samples", 1, "--seed", 3)
    assert run(images, *options, "--out", out) == 0
    assert "3 predicted, 0 skipped, 0 failed" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {"a", "b", "c", "volumes.csv", "failed.csv"}
    assert run(images / "b.nii.gz", *options, "--out", alone) == 0
    assert {path.name for path in (out / "b").iterdir()} == FILES
    assert contents(out / "b") == contents(alone)
    rows = table(out / "volumes.csv")
    assert [row["case"] for row in rows] == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    of_b = [{key: value for key, value in row.items() if key != "case"} for row in rows[4:8]]
    assert of_b == table(alone / "volumes.csv")
    assert {"ml", "ml_p5", "ml_p95", "class"} <= set(rows[0])
    assert table(out / "failed.csv") == []


def test_what_fails_is_listed_and_the_others_go_on(
    images: Path, model: Path, tmp_path: Path, capsys
) -> None:
    (images / "b.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    command = (images, "--model", model, "--out", out, "--samples", 0)
    assert run(*command) == 1
    told = capsys.readouterr().err
    assert "b failed: " in told
    assert "2 predicted, 0 skipped, 1 failed" in told
    assert {row["case"] for row in table(out / "volumes.csv")} == {"a", "c"}
    (failed,) = table(out / "failed.csv")
    assert failed["case"] == "b"
    assert "b.nii.gz" in failed["error"]
    # Once it can be read, only it is predicted.
    before = (out / "a" / "recipe.json").stat().st_mtime_ns
    save(images / "b.nii.gz", blob(*SHAPE))
    assert run(*command, "--skip-existing") == 0
    assert "1 predicted, 2 skipped, 0 failed" in capsys.readouterr().err
    assert (out / "a" / "recipe.json").stat().st_mtime_ns == before
    assert {row["case"] for row in table(out / "volumes.csv")} == {"a", "b", "c"}
    assert table(out / "failed.csv") == []


def test_results_that_are_not_whole_are_made_again(
    images: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_many(images, model, out, samples=1)
    whole = contents(out)
    # What a process that was ended in the middle leaves behind, and a file that was deleted.
    (out / "a" / "recipe.json").unlink()
    (out / "a" / "mean.nii.gz").write_bytes(b"half")
    (out / "c" / "entropy.nii.gz").unlink()
    finished = predict_many(images, model, out, samples=1, skip_existing=True)
    assert {name: one.status for name, one in finished.outcomes.items()} == {
        "a": "done",
        "b": "skipped",
        "c": "done",
    }
    assert contents(out) == whole


def test_a_report_that_is_missing_is_made(images: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_many(images, model, out, samples=0, part="1/3")
    request = make_request(
        images=images / "a.nii.gz", model=model, out=out / "a", samples=0, report_file="r.html"
    )
    assert not is_done(request, opened(request))
    (out / "a" / "r.html").touch()
    assert is_done(request, opened(request))


@pytest.mark.parametrize("change", ["seed", "model", "image"])
def test_results_of_other_settings_are_not_taken_for_these(
    change: str, images: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_many(images, model, out, samples=0, seed=1)
    seed = 2 if change == "seed" else 1
    if change == "model":
        tiny_model(model, dimensions=3, spacing=(2.0, 2.0, 2.0))
        opened.forget()
    if change == "image":
        save(images / "b.nii.gz", blob(*SHAPE, seed=9))
    finished = predict_many(images, model, out, samples=0, seed=seed, skip_existing=True)
    wrong = {"b"} if change == "image" else {"a", "b", "c"}
    assert set(finished.failed) == wrong
    assert f"another {change}" in finished.failed["b"]
    assert "--overwrite" in finished.failed["b"]
    finished = predict_many(images, model, out, samples=0, seed=seed, overwrite=True)
    assert finished.count("done") == 3
    assert json.loads((out / "b" / "recipe.json").read_text())["seed"] == seed


def test_parts_are_stable_and_their_tables_merge(
    images: Path, model: Path, tmp_path: Path, capsys
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "parts"
    options = ("--model", model, "--samples", 1)
    assert run(images, *options, "--out", whole) == 0
    for number in (2, 1, 3, 4):
        assert run(images, *options, "--out", out, "--part", f"{number}/4") == 0
    assert contents(out) == contents(whole)
    # Other files come into the folder meanwhile, in whichever order the disk lists them.
    cases = find_cases(images)
    parts = [Part(number, 2).of(cases[::-1]) for number in (1, 2)]
    assert [names(part) for part in parts] == [["a", "c"], ["b"]]


def test_a_table_that_another_process_overtakes_is_written_again(
    images: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_many(images, model, out, samples=0, part="1/2")

    class Overtaken(Tables):
        """Another part of the cases comes to its end while this one writes."""

        overtaken = False

        def _volumes(self, cases: list[str]) -> tuple[str, dict[str, str]]:
            found = super()._volumes(cases)
            if not self.overtaken:
                self.overtaken = True
                predict_many(images, model, out, samples=0, part="2/2")
            return found

    Overtaken(out).write({})
    assert {row["case"] for row in table(out / "volumes.csv")} == {"a", "b", "c"}


def test_channels_follow_the_rule_of_nnunet(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("p_0000", "p_0001", "q_0000", "scan_2021", "r"):
        save(folder / f"{name}.nii.gz", blob(*SHAPE))
    found = find_cases(folder)
    assert [(case.name, [path.name for path in case.images]) for case in found] == [
        ("p", ["p_0000.nii.gz", "p_0001.nii.gz"]),
        ("q", ["q_0000.nii.gz"]),
        ("r", ["r.nii.gz"]),
        ("scan_2021", ["scan_2021.nii.gz"]),
    ]
    (folder / "p_0001.nii.gz").rename(folder / "p_0002.nii.gz")
    with pytest.raises(ConfigError, match=r"'p' .* 0000, 0002: some are missing"):
        find_cases(folder)


def test_two_channels_are_one_image(tmp_path: Path) -> None:
    two = tiny_model(tmp_path / "two.safetensors", channels=2)
    folder = tmp_path / "images"
    folder.mkdir()
    for channel in (0, 1):
        save(folder / f"p_{channel:04d}.nii.gz", blob(*SHAPE, seed=channel))
    save(folder / "q_0000.nii.gz", blob(*SHAPE))
    finished = predict_many(folder, two, tmp_path / "out", samples=0)
    assert {name: one.status for name, one in finished.outcomes.items()} == {
        "p": "done",
        "q": "failed",
    }
    assert "channel" in finished.failed["q"]


def test_lists_name_images_wherever_they_are(images: Path, tmp_path: Path) -> None:
    lines = tmp_path / "cases.txt"
    lines.write_text(f"images/c.nii.gz\n\n{images / 'a.nii.gz'}\n")
    assert names(find_cases(lines)) == ["a", "c"]
    rows = tmp_path / "cases.csv"
    rows.write_text('case,T1,FLAIR\n"second, of two",images/c.nii.gz,images/b.nii.gz\none,x,y\n')
    found = find_cases(rows)
    assert names(found) == ["one", "second, of two"]
    assert [path.resolve() for path in found[1].images] == [
        (images / name).resolve() for name in ("c.nii.gz", "b.nii.gz")
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "column"),
        ("case,image\n", "no image"),
        ("name,image\na,b\n", "names of its columns"),
        ("case,image\na\n", "Line 2"),
        ("case,image\na,\n", "Line 2"),
        ('case,image\n"a,b\n', "not a table"),
        ("case,image\n../a,b\n", "becomes a folder"),
        ("case,image\n..,b\n", "becomes a folder"),
        ("case,image\na\\b,c\n", "becomes a folder"),
        ("case,image\n/etc,c\n", "becomes a folder"),
        ("case,image\nvolumes.csv,c\n", "name of a table"),
        ("case,image\na,b\nA,c\n", "Two cases"),
        ("case,image\na\0,b\n", "zero bytes"),
    ],
)
def test_tables_that_cannot_be_used(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        find_cases(path)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "a/b", "1/2/3", "²/3"])
def test_parts_that_there_are_not(text: str) -> None:
    with pytest.raises(ConfigError, match="--part"):
        Part.parse(text)


def test_nothing_is_computed_where_all_cases_would_fail(
    images: Path, model: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    good = (images, "--model", model, "--out", out, "--samples", 0)
    for wrong, says in (
        ((*good, "--skip-existing", "--overwrite"), "either --skip-existing or --overwrite"),
        ((*good, "--probabilities", images / "a.nii.gz"), "belongs to one image"),
        ((*good, "--class-scale", "tumour=1"), "Unknown class 'tumour'"),
        ((*good, "--recipe", "recipe.json"), "about one image"),
        ((images / "a.nii.gz", *good[1:], "--part", "1/2"), "--part is about several images"),
        ((images / "a.nii.gz", *good[1:], "--skip-existing"), "about several images"),
        ((tmp_path / "none.txt", *good[1:]), "Cannot read the list"),
    ):
        assert run(*wrong) == 2
        assert says in capsys.readouterr().err.replace("\n", " ")
        assert not list(out.rglob("*.nii.gz"))
    assert run(*good) == 0
    assert run(*good) == 2
    assert "already holds results of 3 of the 3 cases" in capsys.readouterr().err


def test_an_image_of_a_case_is_never_replaced_by_results_of_another(
    images: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    image = save(out / "a" / "mean.nii.gz", blob(*SHAPE))
    before = image.read_bytes()
    rows = tmp_path / "cases.csv"
    rows.write_text(f"case,image\na,{images / 'a.nii.gz'}\nb,{image}\n")
    with pytest.raises(InputError, match="could be replaced"):
        predict_many(rows, model, out, samples=0, overwrite=True)
    assert image.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_what_is_done_is_kept_when_it_is_stopped(
    number: signal.Signals, kind: type, images: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = signal.getsignal(number)

    def stop(_outcome: Outcome, done: int, _total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(kind):
        predict_many(images, model, out, samples=0, report=stop)
    assert signal.getsignal(number) == before
    assert {row["case"] for row in table(out / "volumes.csv")} == {"a", "b"}
    assert not (out / "c" / "recipe.json").exists()
    finished = predict_many(images, model, out, samples=0, skip_existing=True)
    assert (finished.count("skipped"), finished.count("done")) == (2, 1)


def test_voxels_are_as_large_as_the_table_says(images: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_many(images, model, out, samples=0)
    for row in table(out / "volumes.csv"):
        labels = voxels(out / row["case"] / "mean.nii.gz")
        assert int(row["voxels"]) == np.count_nonzero(labels == int(row["label"]))
