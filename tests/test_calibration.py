"""`structseg calibrate`: its scores, the search, the file, and where everything starts then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import napari_structseg as ss
from napari_structseg.calibration.fit import Search, fit
from napari_structseg.calibration.points import CasePoints
from napari_structseg.calibration.scores import SCORES
from napari_structseg.cli import main
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.cohort.draws import DrawSettings, draw_case
from napari_structseg.data.cases import ReadCase
from napari_structseg.distributions import Spread
from napari_structseg.errors import Cancelled, ConfigError, InputError, WeightsError
from napari_structseg.evaluation import crps
from napari_structseg.io.weights import load_weights, read_spec
from napari_structseg.models import CalibrationSpec, ClassSpec, DomainSpec, HeadSpec, SeenSpec
from napari_structseg.prediction.domain_statistics import MOST_POINTS, lattice_in_box
from napari_structseg.training.start import start_from
from nifti_files import save
from stacks import write_stack
from tiny_models import CLASSES, tiny_model

TWO = (ClassSpec(name="background", color="#000000"), ClassSpec(name="nodule", color="#ff0000"))
FOUND = CalibrationSpec(
    temperature=1.5,
    class_scale=(1.0, 0.5, 2.0, 1.25),
    score="crps",
    before={"crps": 0.2},
    after={"crps": 0.1},
    data="Dataset001_Brain",
    cases=12,
    samples=20,
    seed=7,
)
HEADS = {"low rank": HeadSpec(rank=3), "latent": HeadSpec(kind="latent", latent_size=2)}


def two_class_model(path: Path, **fields) -> Path:
    return tiny_model(path, dimensions=2, **{"classes": TWO, **fields})


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_stack(tmp_path / "stack")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return two_class_model(tmp_path / "ssn.safetensors")


def redrawn(dataset: Path, model: Path, n_raters: int, draw: Callable) -> None:
    """Have the raters of a data set draw from a model's own distributions."""
    predictor = ss.Predictor(*ss.load_model(model, "cpu"))
    drawn = [
        draw(predictor.predict(case.image), seed, n_raters)
        for seed, case in enumerate(Cohort(dataset, Selection()), start=1000)
    ]
    np.save(dataset / "labels.npy", np.stack(drawn))


def calibrated_copy(path: Path, found: CalibrationSpec = FOUND, **fields) -> Path:
    """A tiny model that says where it is calibrated."""
    return tiny_model(path, calibration=found, **fields)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_scores_are_those_of_whole_samples(head: HeadSpec, tmp_path: Path) -> None:
    """By other ways: distributions draw samples, probabilities and volumes themselves."""
    rng = np.random.default_rng(0)
    model = tiny_model(tmp_path / "m.safetensors", head=head)
    predictor = ss.Predictor(*ss.load_model(model, "cpu"))
    cases, wanted = [], []
    spread = Spread(1.4, (1.0, 0.5, 1.5, 0.8))
    options = {"temperature": spread.temperature, "class_scale": spread.class_scale}
    for seed in (3, 4):
        image = ss.Image.from_array(
            rng.normal(100, 30, (5, 6, 7)).astype(np.float32), spacing=(2.0, 1.0, 1.5)
        )
        raters = rng.integers(0, 3, (seed - 1, 5, 6, 7)).astype(np.uint8)
        distribution = predictor.predict(image)
        case = ReadCase(f"case {seed}", "", image, raters)
        cases.append(CasePoints(distribution, case, "mm", seed=seed, n_samples=6))
        wanted.append((distribution, raters, seed, image.voxel_volume_ml))
    logs, geds = [], []
    errors, sizes = np.zeros(4), np.zeros(4)
    for distribution, raters, seed, per_voxel in wanted:
        told = distribution.probabilities(6, seed=seed, **options)
        told = np.stack([np.take_along_axis(told, one[None].astype(int), 0)[0] for one in raters])
        logs.extend(np.log(told).ravel().tolist())
        volumes = distribution.volumes_ml(6, per_voxel, seed=seed, **options)
        truth = np.stack([[(one == label).sum() for label in range(4)] for one in raters])
        truth = truth * per_voxel
        errors += [crps(*pair).mean() for pair in zip(volumes.T, truth.T, strict=True)]
        sizes += truth.mean(axis=0)
        samples = distribution.sample(6, seed=seed, **options)
        geds.append(ss.generalised_energy_distance(samples, raters, n_classes=4))
    assert SCORES["likelihood"](cases, spread) == pytest.approx(-np.mean(logs), rel=1e-5)
    # Nobody marked the last class.
    assert SCORES["crps"](cases, spread) == pytest.approx((errors[1:3] / sizes[1:3]).mean())
    assert SCORES["ged"](cases, spread) == pytest.approx(np.mean(geds))
    # And back: where noise is tempered, it is drawn again.
    assert SCORES["ged"](cases, Spread.neutral(4)) != SCORES["ged"](cases, spread)
    assert SCORES["ged"](cases, spread) == pytest.approx(np.mean(geds))


def test_a_large_image_is_looked_at_on_a_lattice_in_the_box_of_what_is_not_nothing() -> None:
    data = np.zeros((90, 100, 80), np.float32)
    data[10:80, 20:, 10:70] = 1
    raters = np.zeros((1, 90, 100, 80), np.uint8)
    raters[0, 5, 50, 50] = 1
    region, share = lattice_in_box(data[None], raters)
    assert share == pytest.approx(1 / 8, rel=0.05)
    assert data[region].size <= MOST_POINTS
    assert {part.step for part in region} == {2}
    first, last = ([getattr(part, end) for part in region] for end in ("start", "stop"))
    assert first == [6, 21, 11]
    assert last == [80, 100, 70]


@pytest.mark.parametrize("tempers_noise", [True, False])
def test_the_search_finds_the_lowest_score(tempers_noise: bool) -> None:
    target = np.log([1.9, 0.6, 1.2])

    def score(spread: Spread) -> float:
        scales = np.log(spread.class_scale)
        if tempers_noise:
            return float(np.square(scales - target).sum() + np.log(spread.temperature / 1.3) ** 2)
        return float(np.square(scales + np.log(spread.temperature) - target).sum())

    told: list[tuple[int, int]] = []
    search = Search(3, tempers_noise)
    found = fit(score, search, lambda done, total: told.append((done, total)))
    assert told[-1] == (search.most_steps, search.most_steps)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    scales = np.array(found.class_scale)
    if tempers_noise:
        assert found.temperature == pytest.approx(1.3, abs=0.03)
    else:
        # Only the product counts: the temperature is what the classes have in common.
        assert np.prod(scales) == pytest.approx(1, abs=0.03)
        scales *= found.temperature
    np.testing.assert_allclose(scales, np.exp(target), atol=0.04)
    alone = fit(score, Search(3, tempers_noise, by_class=False), lambda *_: None)
    assert set(alone.class_scale) == {1.0}


def test_nothing_better_leaves_everything_at_1() -> None:
    assert fit(lambda _: 0.5, Search(2, False), lambda *_: None) == Spread.neutral(2)


def test_products_that_no_slider_reaches_as_one_are_split() -> None:
    """A class at most scale 3 and another at nearly none: the temperature makes up for it."""
    target = np.log([2.9, 0.06])

    def score(spread: Spread) -> float:
        products = np.log(spread.class_scale) + np.log(spread.temperature)
        return float(np.square(products - target).sum())

    found = fit(score, Search(2, False), lambda *_: None)
    assert max(found.class_scale) <= 3
    assert found.temperature * found.class_scale[0] == pytest.approx(2.9, rel=0.05)


def argmax_of_samples(spread: float):
    def draw(distribution, seed: int, n: int) -> np.ndarray:
        return distribution.sample(n, seed=seed, temperature=spread)

    return draw


def labels_from_probabilities(spread: float):
    """As the likelihood has it: a label is drawn from the softmax of a sample."""

    def draw(distribution, seed: int, n: int) -> np.ndarray:
        logits = distribution.sample_logits(n, seed=seed, temperature=spread)
        gumbel = torch.distributions.Gumbel(0.0, 1.0)
        torch.manual_seed(seed)
        return (logits + gumbel.sample(logits.shape)).argmax(dim=1).to(torch.uint8).numpy()

    return draw


# How much less spread than a little there is, labels of single voxels hardly tell.
@pytest.mark.parametrize(("spread", "between"), [(0.4, (0.0, 0.6)), (2.0, (1.4, 2.7))])
@pytest.mark.parametrize(
    ("score", "draw"),
    [
        ("likelihood", labels_from_probabilities),
        ("crps", argmax_of_samples),
        ("ged", argmax_of_samples),
    ],
)
def test_the_spread_of_the_raters_is_found(score, draw, spread, between, tmp_path) -> None:
    dataset = write_stack(tmp_path / "stack")
    model = two_class_model(tmp_path / "ssn.safetensors")
    redrawn(dataset, model, 16, draw(spread))
    out = model.with_name("calibrated.safetensors")
    options = {"samples": 40, "by_class": False, "only": "spread", "device": "cpu"}
    spec = ss.calibrate(dataset, model, out, score=score, **options)
    found = spec.calibration
    assert spec.domain is None
    assert between[0] <= found.temperature <= between[1]
    assert found.class_scale == (1, 1)
    assert found.after[score] < found.before[score]
    assert set(found.before) == set(found.after) == set(SCORES)


def test_the_file_is_the_same_network_and_says_what_was_found(
    dataset, model, tmp_path, capsys
) -> None:
    redrawn(dataset, model, 8, argmax_of_samples(2.0))
    out = tmp_path / "calibrated.safetensors"
    command = ["calibrate", str(dataset), "--model", str(model), "--device", "cpu"]
    arguments = ["--score", "ged", "--split", "train", "--samples", "10", "--limit", "4"]
    assert main([*command, "--out", str(out), *arguments]) == 0
    captured = capsys.readouterr()
    assert "ged (minimised)" in captured.out
    before, after = load_file(model), load_file(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    spec, old = read_spec(out), read_spec(model)
    found = spec.calibration
    assert old.calibration is None
    assert spec.model_copy(update={"calibration": None, "domain": None}) == old
    assert found.score == "ged"
    assert (found.data, found.cases, found.samples) == ("stack", 4, 10)
    assert found.after["ged"] < found.before["ged"]
    assert f"Temperature {found.temperature:.2f}" in captured.err
    assert main(["info", str(out)]) == 0
    assert f"temperature {found.temperature:.2f}" in capsys.readouterr().out
    # It is not replaced by mistake, but may be on purpose, even by itself.
    assert main([*command, "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    again = ["calibrate", str(dataset), "--model", str(out), "--out", str(out), "--overwrite"]
    assert main([*again, "--device", "cpu", *arguments]) == 0
    assert read_spec(out) == spec


def test_prediction_starts_where_the_model_is_calibrated(tmp_path: Path) -> None:
    plain = tiny_model(tmp_path / "plain.safetensors")
    calibrated = calibrated_copy(tmp_path / "calibrated.safetensors")
    image = save(tmp_path / "T1.nii.gz", np.random.default_rng(0).normal(100, 30, (9, 8, 7)))
    scales = dict(zip((one.name for one in CLASSES), FOUND.class_scale, strict=True))

    def outputs(model: Path, **options: object) -> dict[str, str]:
        recipe = ss.predict(
            image, model, tmp_path / "out", samples=2, device="cpu", overwrite=True, **options
        )
        return recipe.outputs

    by_default = outputs(calibrated)
    assert by_default == outputs(plain, temperature=1.5, class_scale=scales)
    assert by_default != outputs(plain)
    # What is given goes before it; classes that are not given keep theirs.
    given = {"temperature": 0.7, "class_scale": {"CSF": 1.0}}
    fields = {"temperature": 0.7, "class_scale": {**scales, "CSF": 1.0}}
    assert outputs(calibrated, **given) == outputs(plain, **fields)
    recipe = ss.predict(image, calibrated, tmp_path / "kept", samples=1, device="cpu")
    assert recipe.controls.temperature == 1.5
    assert recipe.controls.class_scale == scales
    again = ss.reproduce(tmp_path / "kept" / "recipe.json", image, tmp_path / "again")
    assert again.outputs == recipe.outputs


def test_python_starts_there_too(tmp_path: Path) -> None:
    network, spec = ss.load_model(calibrated_copy(tmp_path / "calibrated.safetensors"))
    data = np.random.default_rng(0).normal(100, 30, (9, 8, 7)).astype(np.float32)
    distribution = ss.Predictor(network, spec).predict(ss.Image.from_array(data))
    samples = distribution.sample(2)
    told = {"temperature": 1.5, "class_scale": FOUND.class_scale}
    assert np.array_equal(samples, distribution.sample(2, **told))
    assert not np.array_equal(samples, distribution.sample(2, temperature=1.0))
    controls = ss.make_controls(spec.class_names, spec.calibrated)
    assert np.array_equal(samples[0], ss.render_labels(distribution, ss.Noise(7, 1), controls))
    part = (slice(2, 5), slice(None), slice(1, 6))
    assert np.array_equal(distribution.crop(part).sample(2), samples[(slice(None), *part)])
    moved = ss.make_controls(spec.class_names, spec.calibrated, class_scale={"csf": 3.0})
    assert moved.class_scale == (1.0, 3.0, 2.0, 1.25)
    assert moved.temperature == 1.5


def test_evaluation_starts_there_unless_it_is_told(dataset, model, tmp_path: Path) -> None:
    found = FOUND.model_copy(update={"temperature": 2.0, "class_scale": (1.0, 1.5)})
    calibrated = two_class_model(tmp_path / "calibrated.safetensors", calibration=found)
    case = next(iter(Cohort(dataset, Selection())))
    ours, plain = (ss.Predictor(*load_weights(path)) for path in (calibrated, model))
    settings = DrawSettings(4)
    drawn = draw_case(ours, case.image, case.name, settings)
    assert (drawn.samples != draw_case(plain, case.image, case.name, settings).samples).any()
    seed = settings.controls(case.name, 0).seed
    samples = plain.predict(case.image).sample(4, seed=seed, temperature=2, class_scale=(1, 1.5))
    assert np.array_equal(drawn.samples, samples)
    told = draw_case(ours, case.image, case.name, DrawSettings(4, temperature=0.0))
    assert (told.samples == told.mean).all()


def test_numbers_are_those_that_sliders_show() -> None:
    found = FOUND.model_copy(update={"temperature": 1.234, "class_scale": (0.999, 1.0, 2.0, 3.0)})
    assert found.calibrated == Spread(1.23, (1.0, 1.0, 2.0, 3.0))


def test_a_file_with_other_numbers_of_scales_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 calibrated scales need 4 classes"):
        calibrated_copy(
            tmp_path / "m.safetensors", FOUND.model_copy(update={"class_scale": (1.0, 1.0)})
        )
    with pytest.raises(ValueError, match="less than or equal to 3"):
        CalibrationSpec.model_validate({**FOUND.model_dump(), "temperature": 4})


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"samples": 1}, ConfigError, "2 or more"),
        ({"seed": -1}, ConfigError, "--seed"),
        ({"limit": 0}, ConfigError, "--limit"),
        ({"only": "temperature"}, ConfigError, "spread or domain"),
        ({"score": "dice"}, ConfigError, "one of likelihood, crps, ged"),
        ({"out": "model.pt"}, ConfigError, r"\*\.safetensors"),
        ({"out": "nowhere/m.safetensors"}, InputError, "no folder"),
        ({"split": "other"}, ConfigError, "No case is in the split"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(
    changed, error, says, dataset, model
) -> None:
    out = model.with_name("calibrated.safetensors")
    options = {"out": out, **changed}
    if "out" in changed:
        options["out"] = model.parent / changed["out"]
    with pytest.raises(error, match=says):
        ss.calibrate(dataset, model, **options)
    assert not options["out"].exists()


def test_models_and_cases_without_a_spread_are_refused(dataset, model, tmp_path: Path) -> None:
    out = tmp_path / "calibrated.safetensors"
    point = two_class_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    with pytest.raises(ConfigError, match="is deterministic"):
        ss.calibrate(dataset, point, out)
    with pytest.raises(WeightsError, match="the data set has 2"):
        ss.calibrate(dataset, tiny_model(tmp_path / "brain.safetensors", dimensions=2), out)
    labels = np.load(dataset / "labels.npy")
    np.save(dataset / "labels.npy", np.zeros_like(labels))
    with pytest.raises(ConfigError, match="nobody marked anything"):
        ss.calibrate(dataset, model, out)
    assert not out.exists()


@pytest.mark.parametrize("stage", ["Drawing samples", "Fitting"])
def test_a_cancelled_calibration_writes_nothing(stage, dataset, model, tmp_path) -> None:
    reached: list[str] = []
    out = shutil.copy(model, tmp_path / "calibrated.safetensors")
    before = Path(out).read_bytes()
    with pytest.raises(Cancelled):
        ss.calibrate(
            dataset,
            model,
            out,
            samples=2,
            overwrite=True,
            report=lambda what, *_: reached.append(what),
            cancelled=lambda: stage in reached,
        )
    assert Path(out).read_bytes() == before


@pytest.mark.parametrize("frozen", [True, False])
def test_further_training_keeps_it_only_where_the_network_stays(frozen, tmp_path) -> None:
    domain = DomainSpec(
        statistics=(SeenSpec(name="entropy", unit="nats", seen=(0.1, 0.2), high=0.3),), cases=9
    )
    calibrated = calibrated_copy(tmp_path / "calibrated.safetensors", domain=domain)
    plain = read_spec(tiny_model(tmp_path / "plain.safetensors"))
    _, spec = start_from(str(calibrated), plain, frozen=frozen)
    assert spec.calibration == (FOUND if frozen else None)
    assert spec.domain == (domain if frozen else None)
