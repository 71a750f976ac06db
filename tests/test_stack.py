"""Data sets of many images of one size, as arrays."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from napari_structseg.data.stack import StackCases, is_stack, read_stack
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.models import IntensitySpec, build_network
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.sources import build_run
from stacks import write_stack

WINDOW = IntensitySpec(kind="window", low=0, high=255)


def make_config(**fields) -> TrainConfig:
    return TrainConfig(
        **{"name": "tiny", "dimensions": 2, "patch": (12, 12), "intensity": WINDOW, **fields}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_stack(tmp_path / "stack")


def test_cases_are_what_was_written(folder: Path) -> None:
    stack = read_stack(folder)
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    assert is_stack(folder)
    assert (stack.channels, stack.classes) == (("CT",), ("background", "nodule"))
    assert stack.raters == ("1", "2")
    assert [case.split for case in stack.of_split("val")] == ["val"] * 3
    for case in stack.cases:
        assert (stack.image(case).data == images[case.index]).all()
        assert (stack.labels(case) == labels[case.index]).all()


def test_cases_are_prepared_one_by_one(folder: Path) -> None:
    stack = read_stack(folder)
    cases = StackCases(stack, stack.of_split("train"), WINDOW)
    assert len(cases) == len(list(cases)) == 6
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    np.testing.assert_allclose(cases[2].image, images[2] / 255, atol=1e-6)
    assert (np.stack(cases[2].labels) == labels[2]).all()
    assert [case.name for case in cases[1:3]] == [stack.cases[1].name, stack.cases[2].name]


def test_training_and_validation_keep_to_their_splits(folder: Path) -> None:
    spec, source, validator = build_run(make_config(validation_cases=2), folder)
    assert spec.class_names == ("background", "nodule")
    assert {case.name for case in source.cases} == {f"case-{n}" for n in range(6)}
    assert build_run(make_config(validation_cases=0), folder)[2] is None
    network, before = build_network(spec).eval(), validator
    found = before(network, 2)
    names = [case.name for case in read_stack(folder).cases]
    labels = np.load(folder / "labels.npy")
    for split, is_like_before in ((slice(0, 6), True), (slice(6, 8), False)):
        changed = labels.copy()
        changed[split] = 1 - changed[split]
        np.save(folder / "labels.npy", changed)
        *_, after = build_run(make_config(validation_cases=2), folder)
        assert (after(network, 2) == found) == is_like_before, names[split]


def test_training_on_one_rater(folder: Path) -> None:
    labels = np.load(folder / "labels.npy")
    assert labels[:, 0].any()
    assert not labels[:, 1].any()
    for rater, is_there in ((0, True), (1, False)):
        _, source, _ = build_run(make_config(rater=rater, foreground=0.0), folder)
        drawn = [source.patch(np.random.default_rng(seed))[1].any() for seed in range(12)]
        assert set(drawn) == {is_there}
    _, source, _ = build_run(make_config(foreground=0.0), folder)
    drawn = [source.patch(np.random.default_rng(seed))[1].any() for seed in range(40)]
    assert set(drawn) == {True, False}


def test_quarter_turns_turn_image_and_labels_alike(folder: Path) -> None:
    config = make_config(foreground=0.0, rater=0, augmentation={"quarter_turns": True})
    _, source, _ = build_run(config, folder)
    seen = set()
    for seed in range(80):
        image, labels = source.patch(np.random.default_rng(seed))
        for case in source.cases:
            for turns in range(4):
                turned = np.rot90(case.image, turns, (-2, -1))
                if (turned == image).all():
                    assert (np.rot90(case.labels[0], turns) == labels).all()
                    seen.add(turns)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"rater": 2}, "rater = 2 asks for rater 3"),
        ({"dimensions": 3, "patch": (4, 4, 4)}, "the images of .* are 2-D"),
        ({"spacing": (2.0, 2.0)}, "are not resampled"),
    ],
)
def test_configuration_that_does_not_fit_is_refused(folder: Path, fields, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        build_run(make_config(**fields), folder)


def spoil(name: str, change):
    def spoiled(folder: Path) -> None:
        np.save(folder / name, change(np.load(folder / name)))

    return spoiled


def rewrite_cases(change):
    def rewritten(folder: Path) -> None:
        with (folder / "cases.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        with (folder / "cases.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(change(rows))

    return rewritten


def describe(**changes):
    def described(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return described


def drop_split(folder: Path) -> None:
    lines = (folder / "cases.csv").read_text().splitlines()
    (folder / "cases.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (spoil("images.npy", lambda a: a[:, 0]), "must hold numbers of shape"),
        (spoil("images.npy", lambda a: a.astype(bool)), "must hold numbers of shape"),
        (spoil("images.npy", lambda a: a.repeat(2, axis=1)), "has 2 channels"),
        (spoil("labels.npy", lambda a: a[:5]), "must be uint8 with the shape"),
        (spoil("labels.npy", lambda a: a.astype(int)), "must be uint8 with the shape"),
        (spoil("labels.npy", lambda a: a[..., :4]), "must be uint8 with the shape"),
        (lambda folder: (folder / "labels.npy").write_bytes(b"no"), "Cannot read the array"),
        (lambda folder: (folder / "cases.csv").unlink(), r"Cannot read .*cases.csv"),
        (describe(raters=["a"]), "has 2 raters"),
        (describe(spacing=[1.0]), "spacing .* needs 2 values"),
        (rewrite_cases(lambda rows: rows[:-1]), "has 9 lines for 10 images"),
        (rewrite_cases(lambda rows: [{**row, "case": "x"} for row in rows]), "more than once"),
        (rewrite_cases(lambda rows: [{**row, "split": "all"} for row in rows]), "a split other"),
        (rewrite_cases(lambda rows: [{**row, "patient": "p"} for row in rows]), "both sides"),
        (drop_split, "lacks the columns split"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(folder: Path, change, reason: str) -> None:
    change(folder)
    with pytest.raises(ConfigError, match=reason):
        read_stack(folder)


def test_labels_that_nobody_named_are_refused(folder: Path) -> None:
    spoil("labels.npy", lambda a: a + np.uint8(4))(folder)
    with pytest.raises(InputError, match="holds the value 5"):
        read_stack(folder)


def test_pickled_arrays_are_refused(folder: Path) -> None:
    np.save(folder / "images.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="Cannot read the array"):
        read_stack(folder)


def test_image_that_is_not_finite_is_named(folder: Path) -> None:
    images = np.load(folder / "images.npy").astype(np.float32)
    images[1, 0, 0, 0] = np.nan
    np.save(folder / "images.npy", images)
    stack = read_stack(folder)
    with pytest.raises(InputError, match="case-1"):
        StackCases(stack, stack.cases, WINDOW)[1]
