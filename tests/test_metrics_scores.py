"""All metrics of one case together."""

from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.evaluation import (
    brier_score,
    crps,
    dice_per_class,
    diversity,
    energy_distance,
    pairwise_overlap,
    surface_distances,
)
from napari_structseg.evaluation.metrics import METRICS, metric_of
from napari_structseg.evaluation.scores import Drawn, ScoreSettings, score_case

NAMES = ("background", "myocardium", "ventricle", "scar")
SPACING = (2.0, 0.7, 0.5)


@pytest.fixture
def case():
    """Seven samples and three raters of four classes, the last of which nobody has."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, 3, 5, 6)).astype(np.uint8)
    raters = rng.integers(0, 3, (3, 3, 5, 6)).astype(np.uint8)
    probability = np.moveaxis(rng.dirichlet(np.ones(4), (3, 5, 6)), -1, 0).astype(np.float32)
    return Drawn(labels, 7, probability), raters


@pytest.mark.parametrize("absent", ["agree", "ignore"])
def test_metrics_of_sets_are_those_of_their_functions(case, absent) -> None:
    drawn, raters = case
    settings = ScoreSettings(NAMES, counts=(1, 4), absent=absent)
    found = score_case(drawn, raters, SPACING, settings).values

    def distances(first, second):
        return pairwise_overlap(first, second, 4).distances(absent)

    for name, n, statistic in (("ged", 7, "v"), ("ged_u", 7, "u"), ("ged_4", 4, "v")):
        samples = drawn.samples[:n]
        within = distances(samples, samples), distances(raters, raters)
        wanted = energy_distance(distances(samples, raters), *within, statistic)
        assert found[name] == [pytest.approx(wanted)]
    assert found["rater_diversity"] == [diversity(distances(raters, raters))]


def test_metrics_of_masks_come_by_class_and_together(case) -> None:
    drawn, raters = case
    found = score_case(drawn, raters, SPACING, ScoreSettings(NAMES, tolerance=0.6)).values
    by_rater = np.array([dice_per_class(drawn.mean, one, 4)[1:] for one in raters])
    for index, name in enumerate(NAMES[1:]):
        np.testing.assert_array_equal(found[f"dice: {name}"], by_rater[:, index])
    np.testing.assert_array_equal(found["dice"], by_rater.T.ravel())
    probable = drawn.probability.argmax(axis=0).astype(np.uint8)
    assert (probable != drawn.mean).any()
    of_probable = np.array([dice_per_class(probable, one, 4)[1:] for one in raters])
    np.testing.assert_array_equal(found["dice_of_mean_probability"], of_probable.T.ravel())
    marked = [[(one == label).any() for one in raters] for label in (1, 2, 3)]
    np.testing.assert_array_equal(
        found["dice_marked_of_mean_probability"], np.where(marked, of_probable.T, np.nan).ravel()
    )
    assert np.isnan(found["dice: scar"]).all()
    apart = surface_distances(drawn.mean == 2, raters[1] == 2, SPACING)
    for name, wanted in (("hd95", apart.hd95()), ("nsd", apart.nsd(0.6))):
        assert found[f"{name}: ventricle"][1] == wanted
    best = [max(dice_per_class(s, raters[0], 4)[1] for s in drawn.samples)]
    assert found["best_dice: myocardium"][:1] == best
    dices = [dice_per_class(s, raters[0], 4)[1] for s in drawn.samples]
    assert found["sample_dice: myocardium"][0] == pytest.approx(np.mean(dices))
    assert found["worst_dice: myocardium"][0] == min(dices)
    assert np.isnan(found["worst_dice: scar"]).all()
    assert found["brier"] == [brier_score(drawn.probability, raters)]


@pytest.mark.parametrize(("unit", "per_voxel"), [("mm", 0.7e-3), ("pixels", 1.0)])
def test_volumes_are_of_the_samples_and_in_their_unit(case, unit, per_voxel) -> None:
    drawn, raters = case
    found = score_case(drawn, raters, SPACING, ScoreSettings(NAMES, unit=unit)).values
    volumes, truth = (
        (labels == 2).reshape(len(labels), -1).sum(axis=1) * per_voxel
        for labels in (drawn.samples, raters)
    )
    np.testing.assert_allclose(found["volume_crps: ventricle"], crps(volumes, truth))
    low, high = np.quantile(volumes, (0.05, 0.95))
    inside = [float(low <= one <= high) for one in truth]
    assert found["volume_coverage: ventricle"] == inside
    np.testing.assert_allclose(found["volume_width: ventricle"], (high - low) / truth)
    # Nobody has it, and no sample does: covered, without error, and of no relative width.
    assert found["volume_coverage: scar"] == [1, 1, 1]
    assert found["volume_crps: scar"] == [0, 0, 0]
    assert np.isnan(found["volume_width: scar"]).all()


def test_one_sample_stands_for_all_of_a_deterministic_model(case) -> None:
    drawn, raters = case
    mean = drawn.labels[:1]
    settings = ScoreSettings(NAMES, counts=(2,))
    one, all_alike = (
        score_case(Drawn(labels, 5, drawn.probability), raters, SPACING, settings).values
        for labels in (mean.repeat(2, axis=0), mean.repeat(6, axis=0))
    )
    assert one.keys() == all_alike.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, all_alike[name])
    assert one["sample_diversity"] == [0]


def test_a_single_rater_has_no_unbiased_distance(case) -> None:
    drawn, raters = case
    found = score_case(drawn, raters[:1], SPACING, ScoreSettings(NAMES)).values
    assert np.isnan(found["ged_u"]).all()
    assert not np.isnan(found["ged"]).any()


def test_more_samples_than_there_are_cannot_be_counted(case) -> None:
    with pytest.raises(ValueError, match="need more than 7 samples"):
        score_case(*case, SPACING, ScoreSettings(NAMES, counts=(8,)))


def test_raters_of_lidc_disagree_about_as_much_as_in_the_literature(data_dir) -> None:
    with np.load(data_dir / "lidc" / "first" / "masks_packbits.npz") as arrays:
        masks = np.unpackbits(arrays["masks"], axis=-1)
    found = [diversity(pairwise_overlap(one, one, 2).distances()) for one in masks]
    # Monteiro 2020 has .399 on other slices of the same nodules.
    assert np.mean(found) == pytest.approx(0.399, abs=0.03)


def test_every_score_has_a_metric_behind_it(case) -> None:
    found = score_case(*case, SPACING, ScoreSettings(NAMES, counts=(1, 4))).values
    behind = {name: metric_of(name) for name in found}
    assert behind["dice: scar"] is METRICS["dice"]
    assert behind["ged_4"] is behind["ged_1"] is METRICS["ged"]
    assert behind["ged_u"] is METRICS["ged_u"]
    with pytest.raises(KeyError):
        metric_of("ged_many")
