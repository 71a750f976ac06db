"""Validation during training predicts as prediction does, and chooses the best weights by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.data.cases import ReadCase
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec, build_network
from napari_structseg.prediction.predictor import Predictor, prior_for
from napari_structseg.priors import PriorSpec
from napari_structseg.refine.refinement import labels_with_prior
from napari_structseg.render.rendering import render_labels
from napari_structseg.training.config import LossConfig
from napari_structseg.training.trainer import BEST_NAME
from napari_structseg.training.validation import (
    Validation,
    open_labeller,
    validate_on_cases,
    validate_on_patches,
)
from test_training import Stripes, make_config, make_spec, make_trainer
from tiny_models import tiny_model

MRF = PriorSpec(kind="network", iterations=3)
KINDS = {
    "point": {"head": HeadSpec(kind="point")},
    "low_rank": {"head": HeadSpec(rank=3)},
    "latent": {"head": HeadSpec(kind="latent", latent_size=2)},
    "point, MRF": {"head": HeadSpec(kind="point"), "prior": MRF},
    "low_rank, MRF": {"head": HeadSpec(rank=3), "prior": MRF},
}


def turned_case() -> ReadCase:
    """A volume with other voxels than the model's, whose axes run against its orientation."""
    rng = np.random.default_rng(5)
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, -1.0], [0, 1.2, 0], [-2.0, 0, 0]]
    data = rng.integers(1, 200, (1, 13, 18, 20)).astype(np.uint8)
    image = Image(data, Geometry.from_affine(data.shape[1:], affine, n_channels=1), ("T1",))
    return ReadCase("turned", "", image, rng.integers(0, 4, (2, *data.shape[1:])).astype(np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_validation_scores_what_prediction_gives(kind: str, tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "tiny.safetensors", spacing=(1.5, 1.5, 1.5), **KINDS[kind])
    network, spec = load_weights(path)
    case = turned_case()
    distribution = Predictor(network, spec).predict(case.image)
    prior = prior_for(network, case.image)

    def predicted(sample: int) -> np.ndarray:
        controls = Controls(seed=0, sample=sample, iterations=0 if prior is None else 3)
        if prior is not None:
            return labels_with_prior(distribution, prior, controls)
        noise = controls.noise if distribution.is_stochastic else None
        return render_labels(distribution, noise, controls)

    labels = open_labeller(network, spec, case.image)
    expected = [predicted(sample) for sample in range(3)]
    for sample, wanted in enumerate(expected):
        assert np.array_equal(labels(Controls(seed=0, sample=sample)), wanted)
    assert len(np.unique(expected[0])) > 1
    found = validate_on_cases([case], spec)(network, 2)
    names = spec.class_names[1:]

    def dice(predictions: list[np.ndarray]) -> dict[str, float]:
        scores = [dice_per_class(one, rater, 4) for one in predictions for rater in case.raters]
        mean = np.nanmean(scores, axis=0)[1:]
        return pytest.approx(dict(zip(names, mean, strict=True)), nan_ok=True)

    assert found.dice == dice(expected[:1])
    if kind.startswith("point"):
        assert (found.sample_dice, found.ged, found.runaway) == ({}, None, {})
    else:
        assert found.sample_dice == dice(expected[1:])
        assert 0 < found.ged < 2


def test_pooled_dice_of_patches() -> None:
    config = make_config(head=HeadSpec(kind="point"), loss=LossConfig())
    spec = make_spec(config)
    network = build_network(spec).eval()
    patches = [Stripes().patch(np.random.default_rng(seed)) for seed in range(3)]
    labels = [
        open_labeller(network, spec, Image.from_array(image, channel_axis=0))(Controls())
        for image, _ in patches
    ]
    expected = dice_per_class(np.stack(labels), np.stack([one for _, one in patches]), 2)[1]
    found = validate_on_patches(patches, spec)(network, 4)
    assert found == Validation({"stripe": pytest.approx(expected)})


def test_samples_far_from_the_mean_are_told() -> None:
    config = make_config()
    spec = make_spec(config)
    network = build_network(spec).eval()
    image, labels = Stripes().patch(np.random.default_rng(0))
    case = ReadCase("one", "", Image.from_array(image, channel_axis=0), labels[None])
    with torch.no_grad():
        network.head.mean.weight.zero_()
        network.head.mean.bias.copy_(torch.tensor([0.0, 1.0]))
        network.head.factor.weight.zero_()
        network.head.factor.bias.zero_()
        network.head.log_diagonal.weight.zero_()
        network.head.log_diagonal.bias.fill_(-20)
    validate = validate_on_cases([case], spec)
    assert validate(network, 4).runaway == {}
    with torch.no_grad():
        # The whole image goes over to the background in some samples.
        network.head.factor.bias.copy_(torch.tensor([50.0, 0.0, -50.0, 0.0]))
    (share,) = validate(network, 16).runaway.values()
    assert 0 < share < 1


# The choice of the best weights.


def scripted(found: list[Validation], asked: list[int] | None = None):
    """A validator that gives scores in turn, and notes how many samples it was to draw."""
    scores = iter(found)

    def validate(_network, n_samples: int) -> Validation:
        if asked is not None:
            asked.append(n_samples)
        return next(scores)

    return validate


def test_weights_before_the_likelihood_are_not_the_best(tmp_path: Path) -> None:
    config = make_config(loss=LossConfig(samples=2, mean_only_steps=5), validation_samples=6)
    asked: list[int] = []
    validate = scripted([Validation({"stripe": dice}) for dice in (0.9, 0.5, 0.4)], asked)
    make_trainer(tmp_path, config, validate=validate).run()
    assert load_weights(tmp_path / BEST_NAME)[1].training.steps == 10
    assert asked == [0, 6, 6]


def test_no_weights_are_the_best_before_the_likelihood_is_trained(tmp_path: Path) -> None:
    config = make_config(loss=LossConfig(samples=2, mean_only_steps=6))
    validate = scripted([Validation({"stripe": 0.9})])
    trainer = make_trainer(tmp_path, config, validate=validate)

    def stop(progress) -> None:
        if progress.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop)
    assert not (tmp_path / BEST_NAME).exists()


@pytest.mark.parametrize(
    ("head", "mean_only"), [(HeadSpec(kind="point"), 5), (HeadSpec(rank=2), 12)]
)
def test_a_mean_that_is_all_there_is_can_be_the_best(tmp_path: Path, head, mean_only: int) -> None:
    config = make_config(head=head, loss=LossConfig(samples=2, mean_only_steps=mean_only))
    validate = scripted([Validation({"stripe": dice}) for dice in (0.9, 0.5, 0.4)])
    make_trainer(tmp_path, config, validate=validate).run()
    assert load_weights(tmp_path / BEST_NAME)[1].training.steps == 5


def test_samples_choose_and_not_the_mean(tmp_path: Path) -> None:
    found = [
        Validation({"stripe": dice}, {"stripe": 0.5}, ged)
        for dice, ged in ((0.9, 0.6), (0.5, 0.4), (0.8, 0.5))
    ]
    trainer = make_trainer(tmp_path, validate=scripted(found))
    trainer.run()
    assert load_weights(tmp_path / BEST_NAME)[1].training.steps == 10
    assert [score.ged for score in trainer.history] == [0.6, 0.4, 0.5]
