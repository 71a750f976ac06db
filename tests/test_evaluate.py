"""`structseg evaluate`: rows, summary, resuming, and what is refused."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import REPOSITORY
from evaluate_helpers import (  # noqa: F401
    N_SAMPLES,
    SIZE,
    dataset,
    evaluate,
    model,
    rows_of,
    stacked,
    two_class_model,
    write_table,
)
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.cohort.draws import DrawSettings, draw_case
from napari_structseg.cohort.rows import Row
from napari_structseg.cohort.summary import accumulate, compare_models
from napari_structseg.commands.evaluate import evaluate as evaluate_command
from napari_structseg.controls import Controls
from napari_structseg.distributions import whole
from napari_structseg.evaluation import brier_score, dice_per_class
from napari_structseg.evaluation.calibration import N_BINS
from napari_structseg.evaluation.metrics import METRICS
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.models import HeadSpec
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.priors import PriorSpec
from napari_structseg.priors.contrast import CRFSpec, costs_of_logits, edges_of
from napari_structseg.refine.graph_cut.minimum import minimum
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.refine.refinement import Refinement, labels_with_prior
from napari_structseg.render.rendering import render_labels


def test_rows_are_the_metrics_of_each_case(dataset, model, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", model, "--json", out, "--counts", 1, 4) == 0
    rows = rows_of(out)
    assert [row["case"] for row in rows] == ["a-1", "a-2", "b-1", "b-2", "c-1", "c-2"]
    assert {row["model"] for row in rows} == {weights_hash(model)}
    assert set(rows[0]["scores"]) == {*METRICS, "ged_1", "ged_4"}
    predictor = Predictor(*load_weights(model))
    for row, case in zip(rows, Cohort(dataset, Selection()), strict=True):
        drawn = draw_case(predictor, case.image, case.name, DrawSettings(N_SAMPLES))
        distribution = predictor.predict(case.image)
        controls = Controls(seed=row["seed"])
        np.testing.assert_array_equal(drawn.mean, render_labels(distribution, None, controls))
        for number, labels in enumerate(drawn.samples, start=1):
            noise = controls.model_copy(update={"sample": number}).noise
            np.testing.assert_array_equal(labels, render_labels(distribution, noise, controls))
        np.testing.assert_allclose(drawn.probability.sum(axis=0), 1, atol=1e-5)
        assert row["scores"]["brier"] == [brier_score(drawn.probability, case.raters)]
        dice = [dice_per_class(drawn.mean, rater, 2)[1] for rater in case.raters]
        wanted = [None if np.isnan(one) else one for one in dice]
        assert row["scores"]["dice"] == wanted
    # Cases do not share their noise.
    assert len({row["seed"] for row in rows}) == 6


def test_summary_says_what_was_done_and_what_came_out(dataset, model, tmp_path, capsys) -> None:
    out = tmp_path / "results.json"
    table = tmp_path / "cases.csv"
    table.write_text("case,patient\n" + "".join(f"{p}-{n},{p}\n" for p in "abc" for n in "12"))
    assert evaluate(dataset, "--model", model, "--json", out, "--table", table) == 0
    summary, rows = json.loads(out.read_text()), rows_of(out)
    assert summary["data"] | {"sha256": ""} == {
        "name": "Dataset001_Nodule",
        "sha256": "",
        "cases": 6,
        "patients": 3,
        "cases_by_number_of_raters": {"2": 6},
        "empty_masks": 5,
        "cases_that_nobody_marked": 1,
    }
    (described,) = summary["models"]
    assert described["sha256"] == weights_hash(model)
    assert described["label"] == "ssn"
    ged, dice = described["metrics"]["ged"], described["metrics"]["dice_marked"]
    assert ged["mean"] == pytest.approx(np.mean([row["scores"]["ged"] for row in rows]), abs=1e-6)
    assert ged["low"] <= ged["mean"] <= ged["high"]
    assert (ged["cases"], ged["values"], ged["left_out_cases"]) == (6, 6, [])
    values = [one for row in rows for one in row["scores"]["dice_marked"] if one is not None]
    assert dice["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert (dice["cases"], dice["values"], dice["undefined_values"]) == (5, 7, 5)
    assert dice["left_out_cases"] == ["c-2"]
    assert "did not mark" in summary["metrics"]["dice_marked"]["undefined_if"]
    assert sum(one["observations"] for one in described["reliability"]) == 6 * 2 * SIZE**2
    assert summary["settings"]["seed"] == 7
    assert summary["settings"]["unit"] == "pixels"
    assert summary["comparisons"] == []
    # Nothing of this machine.
    assert str(tmp_path) not in out.read_text()
    command = ["structseg", "evaluate", "Dataset001_Nodule", "--model", "ssn.safetensors"]
    assert summary["command"][:5] == command
    captured = capsys.readouterr()
    assert "6 cases of 3 patients; 5 masks of raters are empty" in captured.err
    assert "nobody marked anything in 1 cases" in captured.err
    assert "ssn" in captured.out


def test_a_deterministic_model_is_its_one_sample(dataset, tmp_path: Path) -> None:
    point = two_class_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", point, "--json", out, "--counts", 1) == 0
    for row in rows_of(out):
        assert row["scores"]["sample_diversity"] == [0]
        assert row["scores"]["ged"] == row["scores"]["ged_1"]
        assert set(row["scores"]["better_than_mean"]) <= {0, None}


def test_models_are_compared_in_pairs(dataset, model, tmp_path: Path, capsys) -> None:
    point = two_class_model(tmp_path / "unet.safetensors", head=HeadSpec(kind="point"))
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", model, point, "--json", out, "--compare", "ged") == 0
    summary = json.loads(out.read_text())
    (comparison,) = summary["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("ssn", "unet")
    means = [one["metrics"]["ged"]["mean"] for one in summary["models"]]
    assert comparison["difference"] == pytest.approx(means[0] - means[1], abs=2e-6)
    assert comparison["patients"] == 6
    assert comparison["p"] == comparison["p_bonferroni"]
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    said = f"ged of ssn less that of unet: {comparison['difference']:+.3f} ("
    assert said in capsys.readouterr().err


def test_models_are_compared_on_patients_for_whom_both_are_defined() -> None:
    dice = {"one": {"a": [0.1], "b": [0.5, None], "c": [None]}, "two": {"b": [0.75], "c": [0.9]}}
    counts = ([0] * N_BINS,) * 3
    rows = [
        Row(
            model=model,
            case=patient,
            patient=patient,
            seed=0,
            scores={"dice": values.get(patient, [None])},
            reliability=counts,
        )
        for model, values in dice.items()
        for patient in "abc"
    ]
    (comparison,) = compare_models(accumulate(rows, list(dice)), ["dice"])
    assert comparison["difference"] == -0.25
    assert comparison["values"] == [1, 1]
    assert comparison["patients"] == 1


def test_samples_that_repeat_are_said(dataset, tmp_path: Path, capsys) -> None:
    head = HeadSpec(kind="heads", members=2)
    path = two_class_model(tmp_path / "heads.safetensors", head=head)
    assert evaluate(dataset, "--model", path, "--json", tmp_path / "out.json") == 0
    assert f"heads is a set of 2: {N_SAMPLES} samples of it repeat these" in capsys.readouterr().err


def test_a_prior_refines_mean_and_samples(dataset, tmp_path: Path) -> None:
    with_prior = two_class_model(tmp_path / "mrf.safetensors", prior=PriorSpec(iterations=3))
    predictor = Predictor(*load_weights(with_prior))
    (case, *_) = Cohort(dataset, Selection())
    for asked, used in ((None, 3), (1, 1)):
        settings = DrawSettings(2, iterations=asked)
        drawn = draw_case(predictor, case.image, case.name, settings)
        controls = settings.controls(case.name, 3)
        assert controls.iterations == used
        distribution = predictor.predict(case.image)
        prior = prior_for(predictor.network, case.image)
        refinement = Refinement(distribution, prior)
        expected = np.mean(
            [
                refinement.probabilities(controls.model_copy(update={"sample": sample}))
                for sample in (1, 2)
            ],
            axis=0,
        )
        np.testing.assert_allclose(drawn.probability, expected, atol=1e-6)
        unary = draw_case(predictor, case.image, case.name, DrawSettings(2, iterations=0))
        assert np.abs(drawn.probability - unary.probability).max() > 0.01
        for sample, labels in enumerate((drawn.mean, *drawn.samples)):
            shown = controls.model_copy(update={"sample": sample})
            wanted = labels_with_prior(
                distribution, prior_for(predictor.network, case.image), shown
            )
            np.testing.assert_array_equal(labels, wanted)


def test_the_table_says_which_models_an_mrf_refines(dataset, tmp_path: Path, capsys) -> None:
    refined = two_class_model(tmp_path / "mrf.safetensors", prior=PriorSpec(iterations=2))
    plain = two_class_model(tmp_path / "plain.safetensors")
    out = tmp_path / "results.json"
    assert evaluate(dataset, "--model", refined, plain, "--json", out) == 0
    assert capsys.readouterr().out.count("with MRF") == 1
    said = [model["refined_by_mrf"] for model in json.loads(out.read_text())["models"]]
    assert said == [True, False]


@pytest.mark.parametrize("refine", ["model", "cut"])
def test_a_graph_cut_labels_mean_and_samples_one_by_one(dataset, tmp_path: Path, refine) -> None:
    learned = CRFSpec(smooth=0.6, contrast=1.4) if refine == "model" else None
    predictor = Predictor(*load_weights(two_class_model(tmp_path / "m.safetensors", crf=learned)))
    (case, *_) = Cohort(dataset, Selection())
    drawn = draw_case(predictor, case.image, case.name, DrawSettings(3, refine=refine))
    alone = draw_case(predictor, case.image, case.name, DrawSettings(3, refine="none"))
    controls = DrawSettings(3).controls(case.name, 0)
    distribution = predictor.predict(case.image)
    edges, spec = edges_of(case.image.data, spacing=case.image.spacing), learned or CRFSpec()
    for sample, labels in enumerate((drawn.mean, *drawn.samples)):
        shown = controls.model_copy(update={"sample": sample})
        logits = ChosenLogits(distribution).problem(shown).logits(whole(case.image.spatial_shape))
        wanted = minimum(costs_of_logits(logits.detach().numpy()), edges, spec)
        np.testing.assert_array_equal(labels, wanted)
    assert (drawn.labels != alone.labels).any()
    # A minimum has no probabilities.
    np.testing.assert_array_equal(drawn.probability, alone.probability)


def test_rows_summary_and_table_say_what_made_the_labels(dataset, tmp_path: Path, capsys) -> None:
    learned = two_class_model(tmp_path / "crf.safetensors", crf=CRFSpec(smooth=0.6))
    refined = two_class_model(tmp_path / "mrf.safetensors", prior=PriorSpec(iterations=2))
    plain = two_class_model(tmp_path / "plain.safetensors")
    out, models = tmp_path / "results.json", (learned, refined, plain)
    for refine, wanted in (
        ("model", ["cut", "mean-field", "none"]),
        ("cut", ["cut", "cut", "cut"]),
        ("none", ["none", "none", "none"]),
    ):
        more = ("--refine", refine, "--limit", 2, "--overwrite", "--json", out)
        assert evaluate(dataset, "--model", *models, *more, samples=2) == 0
        printed = capsys.readouterr().out
        assert printed.count("with CRF") == wanted.count("cut")
        assert printed.count("with MRF") == wanted.count("mean-field")
        said = json.loads(out.read_text())
        by = {one["sha256"]: one["refined_by"] for one in said["models"]}
        assert list(by.values()) == wanted
        assert said["settings"]["refine"] == refine
        assert all(row["refined_by"] == by[row["model"]] for row in rows_of(out))
        # Of a model without learned weights those that everything starts with.
        smooth = [0.6, 0.3, 0.3]
        weights = [one["crf"] and one["crf"]["smooth"] for one in said["models"]]
        assert weights == [
            one if how == "cut" else None for one, how in zip(smooth, wanted, strict=True)
        ]


def test_batches_of_samples_change_nothing(dataset, model) -> None:
    predictor = Predictor(*load_weights(model))
    (case, *_) = Cohort(dataset, Selection())
    few, many = (
        draw_case(predictor, case.image, case.name, DrawSettings(5, batch=batch))
        for batch in (2, 16)
    )
    np.testing.assert_array_equal(few.samples, many.samples)
    np.testing.assert_allclose(few.probability, many.probability, atol=1e-6)


def test_part_of_a_data_set_is_selected(dataset, tmp_path: Path) -> None:
    table = write_table(tmp_path / "cases.csv")
    cohort = Cohort(dataset, Selection(table=table, split="test", raters=("bea",)))
    assert [case.name for case in cohort.cases] == ["b-1", "b-2", "c-1", "c-2"]
    assert [case.patient for case in cohort.cases] == ["Pb", "Pb", "Pc", "Pc"]
    (first, *_) = cohort
    assert first.raters.shape == (1, SIZE, SIZE)
    assert not first.raters.any()
    by_name = Cohort(dataset, Selection(patient_separator="-", limit=3))
    assert [case.name for case in by_name.cases] == ["a-1", "b-1", "c-1"]
    assert [case.patient for case in by_name.cases] == ["a", "b", "c"]
    assert [case.patient for case in Cohort(dataset, Selection()).cases][:2] == ["a-1", "a-2"]


def test_a_stack_of_arrays_gives_what_its_files_give(dataset, model, tmp_path: Path) -> None:
    arrays = stacked(dataset, tmp_path / "stack")
    of_files, of_arrays = tmp_path / "files.json", tmp_path / "arrays.json"
    evaluate(dataset, "--model", model, "--json", of_files, "--patient-separator", "-")
    assert evaluate(arrays, "--model", model, "--json", of_arrays) == 0
    assert rows_of(of_arrays) == rows_of(of_files)
    found, wanted = (json.loads(path.read_text()) for path in (of_arrays, of_files))
    assert found["models"] == wanted["models"]
    assert found["settings"] == wanted["settings"]
    test = Cohort(arrays, Selection(split="test", raters=("bea",)))
    assert [case.name for case in test.cases] == ["b-1", "b-2", "c-1", "c-2"]
    (_, second, *_) = test
    assert second.raters.any()
    np.testing.assert_array_equal(second.raters, np.load(arrays / "labels.npy")[3, 1:])


def test_every_metric_and_option_is_documented() -> None:
    pages = REPOSITORY / "docs"
    metrics = (pages / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"| `{name}` |" not in metrics] == []
    _, _, section = (
        (pages / "command-line.md").read_text(encoding="utf-8").partition("## structseg evaluate")
    )
    section = section.partition("\n## ")[0]
    options = inspect.signature(evaluate_command).parameters
    names = [f"--{name.replace('_', '-')}" for name in options if name != "dataset"]
    assert [name for name in names if f"| `{name}` |" not in section] == []
