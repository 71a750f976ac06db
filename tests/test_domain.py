"""Whether an image is one of those that a model was made for: statistics, ranges, what is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_structseg as ss
from dock_helpers import brain
from napari_structseg.calibration.domain import LEAST_CASES, fit_domain
from napari_structseg.cli import main
from napari_structseg.distributions import PointLogits
from napari_structseg.errors import ConfigError
from napari_structseg.io.weights import read_spec
from napari_structseg.models import HeadSpec, IntensitySpec, ModelSpec
from napari_structseg.prediction.domain import check_domain
from napari_structseg.prediction.domain_statistics import statistics_of
from nifti_files import save
from tiny_models import CLASSES, tiny_model

SHAPE = (10, 16, 12)
WINDOW = IntensitySpec(kind="window", low=0, high=100)


def spec_of(**fields) -> ModelSpec:
    return ModelSpec(
        name="made", dimensions=3, channels=("T1",), classes=CLASSES, patch=(8, 8, 8), **fields
    )


def of_labels(labels: np.ndarray, confidence: float = 50.0) -> PointLogits:
    """The distribution that is sure of these labels."""
    hot = np.stack([labels == label for label in range(4)]).astype(np.float32)
    return PointLogits(torch.from_numpy(confidence * hot))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Six cases of noise in a dark frame, as stripped heads have one; labels do not matter."""
    folder = tmp_path / "Dataset001_Brain"
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    for number in range(6):
        save(folder / "imagesTr" / f"case{number}_0000.nii.gz", framed(number), affine)
        labels = (framed(number) > 110).astype(np.uint8)
        save(folder / "labelsTr" / f"case{number}.nii.gz", labels, affine)
    description = {
        "channel_names": {"0": "T1"},
        "labels": {one.name: label for label, one in enumerate(CLASSES)},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def framed(seed: int) -> np.ndarray:
    """A head in an empty frame."""
    data = brain(SHAPE, seed)
    data[:, :3] = data[:2] = data[-2:] = 0
    data[:, -3:] = 0
    data[..., :2] = data[..., -2:] = 0
    return data


@pytest.fixture
def model(dataset, tmp_path: Path) -> Path:
    """It says that it was made for these cases."""
    plain = tiny_model(tmp_path / "plain.safetensors")
    out = tmp_path / "made.safetensors"
    ss.calibrate(dataset, plain, out, only="domain", device="cpu")
    return out


def test_statistics_by_hand() -> None:
    data = np.zeros((5, 6, 7), np.float32)
    data[1:4, 1:5, 1:6] = 40
    data[2, 2, 1:6] = 80
    data[0, 0, 0] = 20
    labels = np.zeros(data.shape, np.uint8)
    labels[1:4, 1:5, 1:6] = 2
    labels[4, 1:5, 1:6] = 3
    image = ss.Image.from_array(data, spacing=(2.0, 1.0, 5.0))
    found = statistics_of(spec_of(intensity=WINDOW), image, of_labels(labels))
    # In the box of what is not 0, every voxel has a window's intensity, those of 0 as well.
    inside = np.array([0.8] * 5 + [0.4] * 55 + [0.2] + [0] * 59)
    for name, level in (("dark end", 0.05), ("middle", 0.5), ("bright end", 0.95)):
        assert found[name, ""] == pytest.approx(np.quantile(inside, level), abs=1e-5)
    assert found["brightness", "Grey matter"] == pytest.approx(0.4)
    # 60 voxels of 10 mm³; what lies outside the box of data is not counted.
    assert found["volume", "Grey matter"] == pytest.approx(0.6)
    assert found["volume", "White matter"] == found["volume", "CSF"] == 0
    assert ("brightness", "White matter") not in found
    faces = 2 * (6 * 7 + 5 * 7 + 5 * 6)
    # The corner is on three faces, the white matter on one.
    assert found["data at the edge", ""] == pytest.approx(3 / faces)
    assert found["tissue at the edge", ""] == pytest.approx(20 / faces)
    assert found["entropy", ""] == pytest.approx(0, abs=1e-6)
    undecided = statistics_of(spec_of(intensity=WINDOW), image, of_labels(labels, confidence=1e-6))
    assert undecided["entropy", ""] == pytest.approx(np.log(4), rel=1e-3)


def test_what_is_not_known_is_left_out() -> None:
    data = np.full((4, 5, 6), 50, np.float32)
    labels = np.ones(data.shape, np.uint8)
    spec = spec_of(intensity=WINDOW)
    found = statistics_of(spec, ss.Image.from_array(data), of_labels(labels))
    assert not any(name == "volume" for name, _ in found)
    region = (slice(0, 2), slice(0, 5), slice(0, 6))
    image = ss.Image.from_array(data, spacing=(1.0, 1.0, 1.0))
    part = statistics_of(spec, image, of_labels(labels[region]), region)
    assert {name for name, _ in part} == {
        *("dark end", "middle", "bright end", "brightness", "entropy")
    }
    # Percentiles of one value are no range; the rest is still there.
    flat = statistics_of(spec_of(), image, of_labels(labels))
    assert not any(name == "middle" for name, _ in flat)
    assert ("volume", "CSF") in flat


@pytest.mark.parametrize("n_cases", [5, 20])
def test_cases_like_those_seen_rarely_raise_an_alarm(n_cases: int) -> None:
    rng = np.random.default_rng(0)

    def drawn(n: int) -> list[dict]:
        return [
            {
                ("volume", "CSF"): rng.normal(6, 0.5) ** 3,
                ("middle", ""): rng.normal(0.5, 0.05),
                ("entropy", ""): rng.normal(0.5, 0.06) ** 2,
            }
            for _ in range(n)
        ]

    alarms = []
    for _ in range(60):
        seen = fit_domain(drawn(n_cases), "made").statistics
        alarms += [
            any(
                case[one.name, one.of] > one.high
                or (one.low is not None and case[one.name, one.of] < one.low)
                for one in seen
            )
            for case in drawn(50)
        ]
    assert 0.002 < np.mean(alarms) < 0.02


def test_ranges_hold_what_was_seen_and_too_little_is_no_alarm_everywhere() -> None:
    entropies = [0.1, 0.2, 0.15, 0.12, 0.9]
    cases = [{("entropy", ""): one, ("volume", "CSF"): 1000 * one} for one in entropies]
    entropy, volume = fit_domain(cases, "made").statistics
    assert (entropy.seen, entropy.low, entropy.unit) == ((0.1, 0.9), None, "nats")
    assert entropy.high >= 0.9
    assert (volume.unit, volume.seen) == ("mL", (100.0, 900.0))
    assert volume.low <= 100
    assert fit_domain(cases[: LEAST_CASES - 1], "made") is None


def test_an_image_like_those_seen_is_inside(model, tmp_path, capsys) -> None:
    image = save(tmp_path / "T1.nii.gz", framed(77), np.diag([1.0, 1.0, 2.0, 1.0]))
    out = tmp_path / "out"
    command = ["predict", str(image), "--model", str(model), "--samples", "1", "--out", str(out)]
    assert main(command) == 0
    assert "outside" not in capsys.readouterr().err
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["outside_domain"] == []
    assert {row["in_domain"] for row in rows(out / "volumes.csv")} == {"yes"}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_another_image_is_said_to_be_outside_and_segmented_all_the_same(
    model, tmp_path, capsys, caplog
) -> None:
    # Data up to every edge, and another histogram.
    unlike = np.exp(np.random.default_rng(0).normal(0, 1.5, SHAPE)).astype(np.float32)
    image = save(tmp_path / "T2.nii.gz", unlike, np.diag([1.0, 1.0, 2.0, 1.0]))
    out = tmp_path / "out"
    command = ["predict", str(image), "--model", str(model), "--samples", "1", "--out", str(out)]
    assert main(command) == 0
    assert "is outside what the model 'plain' was made for" in caplog.text
    recipe = json.loads((out / "recipe.json").read_text())
    assert "voxels at the image's edge that are not 0" in " ".join(recipe["outside_domain"])
    assert {row["in_domain"] for row in rows(out / "volumes.csv")} == {"no"}
    again = ss.reproduce(out / "recipe.json", image, tmp_path / "again")
    assert list(again.outside_domain) == recipe["outside_domain"]
    plain = ss.predict(image, tmp_path / "plain.safetensors", tmp_path / "plain", samples=1)
    assert plain.outside_domain is None
    assert {row["in_domain"] for row in rows(tmp_path / "plain" / "volumes.csv")} == {""}
    assert plain.outputs == again.outputs


def test_python_is_told(model) -> None:
    predictor = ss.Predictor(*ss.load_model(model))
    inside = ss.Image.from_array(framed(5), spacing=(2.0, 1.0, 1.0))
    check = predictor.predict(inside).domain
    assert not check.is_outside
    assert check.message == ""
    large = ss.Image.from_array(framed(5), spacing=(6.0, 4.0, 4.0))
    check = predictor.predict(large).domain
    assert check.is_outside
    whats = {one.what for one in check.findings}
    assert whats & {one.name for one in CLASSES}
    assert " mL, seen " in check.message
    assert check.message.startswith("This image is outside what the model 'plain' was made for: ")
    excess = [one.excess for one in check.findings]
    assert excess == sorted(excess, reverse=True)


def test_the_domain_alone_leaves_the_spread_and_serves_deterministic_models(
    dataset, tmp_path, capsys
) -> None:
    point = tiny_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    out = tmp_path / "made.safetensors"
    command = ["calibrate", str(dataset), "--model", str(point), "--out", str(out)]
    assert main([*command, "--only", "domain"]) == 0
    assert "of 6 cases" in capsys.readouterr().err
    spec = read_spec(out)
    assert spec.calibration is None
    assert spec.domain.cases == 6
    assert spec.domain.data == "Dataset001_Brain"
    assert main(["info", str(out)]) == 0
    assert "images like 6 cases of Dataset001_Brain" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="At least 4 cases"):
        ss.calibrate(dataset, point, tmp_path / "few.safetensors", only="domain", limit=3)


def test_of_slices_only_intensities_and_entropy_are_looked_at(model, tmp_path) -> None:
    domain = read_spec(model).domain
    flat = tiny_model(tmp_path / "flat.safetensors", dimensions=2, domain=domain)
    volume = ss.Image.from_array(framed(5), spacing=(90.0, 90.0, 90.0))
    roi = ss.RegionOfInterest.parse("z:3:4", None)
    predictor = ss.SlicePredictor(ss.Predictor(*ss.load_model(flat)), roi)
    check = predictor.predict(volume).domain
    assert {one.what for one in check.findings}.isdisjoint(one.name for one in CLASSES)


def test_models_and_maps_that_say_nothing_are_not_checked(tmp_path) -> None:
    predictor = ss.Predictor(*ss.load_model(tiny_model(tmp_path / "m.safetensors")))
    image = ss.Image.from_array(framed(5))
    distribution = predictor.predict(image)
    assert distribution.domain is None
    assert check_domain(predictor.spec, image, distribution) is None
