"""Training a CRF with a margin, together with the network or after it: Algorithm 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_structseg.cli import main
from napari_structseg.controls import Controls
from napari_structseg.data.cases import UNREVIEWED, PreparedCase, ReadCase
from napari_structseg.errors import ConfigError, InputError, WeightsError
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec, SegmentationNetwork, build_network
from napari_structseg.priors.contrast import costs_of_logits, edges_of
from napari_structseg.refine.graph_cut.minimum import minimum
from napari_structseg.training.checkpoint import read_checkpoint
from napari_structseg.training.config import LossConfig, PriorConfig, TrainConfig, read_config
from napari_structseg.training.input.batches import drawn
from napari_structseg.training.input.patches import ImagePatches
from napari_structseg.training.max_margin.cutting_planes import learn
from napari_structseg.training.max_margin.example import CutExample
from napari_structseg.training.max_margin.learning import MaxMargin
from napari_structseg.training.sections import AugmentationConfig, MaxMarginConfig
from napari_structseg.training.start import require_start
from napari_structseg.training.trainer import (
    BEST_NAME,
    CHECKPOINT_NAME,
    WEIGHTS_NAME,
    Trainer,
)
from napari_structseg.training.validation import open_labeller, validate_on_cases
from test_cli_train import dataset, train, write_config  # noqa: F401
from test_training import make_config, make_spec, same_files, stop_at
from tiny_models import CLASSES

POINT = HeadSpec(kind="point")
N_CASES = 4


def cases() -> list[PreparedCase]:
    """A bright square in noise; it is somewhere else in each."""
    found = []
    for number in range(N_CASES):
        rng = np.random.default_rng(number)
        labels = np.zeros((8, 8), np.uint8)
        labels[number : number + 4, 2:6] = 1
        image = (labels + 0.5 * rng.standard_normal((8, 8))).astype(np.float32)
        found.append(PreparedCase(f"case {number}", image[None], (labels,), (1.0, 1.0)))
    return found


def margin_config(mode: str = "joint", **fields) -> TrainConfig:
    asked = {"mode": mode, "epoch_steps": 2, "scale": 3.0} | fields.pop("max_margin", {})
    return make_config(
        **{
            "head": POINT,
            "max_margin": MaxMarginConfig(**asked),
            "loss": LossConfig(),
            "steps": 6,
            "augmentation": AugmentationConfig(noise=0.1),
            **fields,
        }
    )


def start(config: TrainConfig) -> SegmentationNetwork:
    """A network that finds bright voxels, not well."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = build_network(make_spec(config))
    data, optimiser = cases(), torch.optim.Adam(network.parameters(), lr=1e-2)
    images = torch.from_numpy(np.stack([one.image for one in data]))
    labels = torch.from_numpy(np.stack([one.labels[0] for one in data])).long()
    for _ in range(25):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(images).mean, labels).backward()
        optimiser.step()
    return network.eval()


def trainer_of(folder: Path, config: TrainConfig, **options) -> Trainer:
    if not options.get("resume"):
        options.setdefault("initial", start(config))
    return Trainer(config, make_spec(config), ImagePatches(cases(), config), folder, **options)


def batch(config: TrainConfig) -> tuple[torch.Tensor, torch.Tensor]:
    data = cases()[:2]
    images = torch.from_numpy(np.stack([one.image for one in data]))
    return images, torch.from_numpy(np.stack([one.labels[0] for one in data]))


# The loss.


def test_the_loss_is_gamma_and_its_gradient_that_of_finite_differences() -> None:
    config = margin_config(max_margin={"tolerance": 1e-6})
    images, labels = batch(config)
    logits = start(config)(images).mean.detach().requires_grad_()
    margin = MaxMargin(config.max_margin)
    loss = margin.loss(logits, images, labels, 0)
    loss.backward()
    # Every labelling that mattered is kept, so that gamma does not jump.
    assert set(margin.found) == {(0, 0), (0, 1)}
    assert min(len(one) for one in margin.found.values()) > 0
    assert logits.grad[:, 0].equal(-logits.grad[:, 1])

    def gamma(at: tuple[int, ...], by: float) -> float:
        moved = logits.detach().clone()
        moved[at] += by
        return float(MaxMargin(config.max_margin).loss(moved, images, labels, 0))

    largest = logits.grad.abs().flatten().topk(3).indices
    for flat in largest.tolist():
        at = tuple(int(i) for i in np.unravel_index(flat, logits.shape))
        slope = (gamma(at, 1e-2) - gamma(at, -1e-2)) / 2e-2
        assert float(logits.grad[at]) == pytest.approx(slope, rel=0.05)
    assert logits.grad.abs().max() > 1e-3


def test_where_there_is_no_data_nothing_is_learned() -> None:
    config = margin_config()
    images, labels = batch(config)
    images[:, :, :, :3] = 0
    logits = start(config)(images).mean.detach().requires_grad_()
    MaxMargin(config.max_margin, zero_is_background=True).loss(logits, images, labels, 0).backward()
    assert not logits.grad[..., :3].any()
    assert logits.grad[..., 3:].any()


def test_voxels_that_nobody_reviewed_are_refused_and_not_taken_for_background() -> None:
    config = margin_config()
    images, labels = batch(config)
    labels[0, 2, :3] = UNREVIEWED
    logits = start(config)(images).mean.detach()
    with pytest.raises(InputError, match="but 3 voxels of a batch are not reviewed"):
        MaxMargin(config.max_margin).loss(logits, images, labels, 0)


# Whole runs.


def test_joint_training_changes_the_network_and_keeps_the_crf_with_it(tmp_path: Path) -> None:
    config = margin_config()
    initial = start(config)
    before = {name: tensor.clone() for name, tensor in initial.state_dict().items()}
    trainer = trainer_of(tmp_path, config, initial=initial)
    losses: list[float] = []
    weights = trainer.run(lambda progress: losses.append(progress.loss))
    network, spec = load_weights(weights)
    assert any(not torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert np.isfinite(losses).all()
    assert spec.crf is not None
    assert spec.crf.unary > 0
    assert spec.crf.scale == 3
    assert not read_checkpoint(tmp_path / CHECKPOINT_NAME).margin


@pytest.mark.parametrize("mode", ["joint", "piecewise"])
@pytest.mark.parametrize("stop", [1, 4, 5])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, stop: int, mode: str
) -> None:
    config = margin_config(mode, max_margin={"epoch_steps": 3})
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    trainer_of(straight, config).run()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(halves, config).run(stop_at(stop))
    kept = read_checkpoint(halves / CHECKPOINT_NAME)
    assert len(kept.margin) == stop % 3 * config.batch
    assert (kept.state.margin.weights is None) == (stop < 3)
    trainer_of(halves, config, resume=True).run()
    assert same_files(straight / WEIGHTS_NAME, halves / WEIGHTS_NAME)
    ours, theirs = (load_weights(folder / WEIGHTS_NAME)[1] for folder in (straight, halves))
    assert ours.crf == theirs.crf


def test_piecewise_training_is_algorithm_1_on_a_network_that_stays(tmp_path: Path) -> None:
    config = margin_config(
        "piecewise", steps=2, augmentation=AugmentationConfig(), max_margin={"tolerance": 1e-6}
    )
    network = start(config)
    trainer = trainer_of(tmp_path, config, initial=network)
    trainer.run()
    found, spec = load_weights(tmp_path / WEIGHTS_NAME)
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in network.state_dict().items())
    # Both steps together are every case once.
    examples = []
    for case in cases():
        with torch.no_grad():
            logits = network(torch.from_numpy(case.image)[None]).mean[0].numpy()
        examples.append(CutExample(logits, case.labels[0] == 1, edges_of(case.image), 3.0))
    expected = learn(examples, cost=1.0, tolerance=1e-6)
    np.testing.assert_allclose(spec.crf.weights, expected.weights, rtol=1e-2, atol=1e-3)


def test_the_merged_problem_alone_is_that_of_the_paper(tmp_path: Path) -> None:
    config = margin_config("piecewise", steps=2, max_margin={"rounds": 0})
    merged = trainer_of(tmp_path / "merged", config)
    merged.run()
    complete = trainer_of(tmp_path / "all", margin_config("piecewise", steps=2))
    complete.run()
    ours, theirs = (load_weights(tmp_path / n / WEIGHTS_NAME)[1].crf for n in ("merged", "all"))
    assert ours is not None
    assert theirs is not None
    assert ours != theirs


def test_cases_have_their_turn() -> None:
    config = margin_config(augmentation=AugmentationConfig())
    source, data = ImagePatches(cases(), config), cases()

    def cases_of(steps) -> list[int]:
        images = [drawn(source, config, s, p)[0] for s in steps for p in range(config.batch)]
        return [next(n for n, c in enumerate(data) if np.array_equal(c.image, i)) for i in images]

    first, second = cases_of((0, 1)), cases_of((2, 3))
    assert sorted(first) == sorted(second) == list(range(N_CASES))


def test_validation_scores_what_the_crf_makes_of_the_network(tmp_path: Path) -> None:
    config = margin_config("piecewise", steps=2, validate_every=1)
    network = start(config)
    data = [
        ReadCase(one.name, "", Image.from_array(one.image[0]), np.stack(one.labels))
        for one in cases()[:1]
    ]
    spec = make_spec(config)
    validate = validate_on_cases(data, spec)
    trainer = trainer_of(tmp_path, config, initial=network, validate=validate)
    trainer.run()
    _, trained = load_weights(tmp_path / BEST_NAME)
    assert trained.steps == 2
    assert trained.crf is not None
    image = data[0].image
    logits = predicted_logits(network, spec, image)
    labels = minimum(costs_of_logits(logits), edges_of(image.data), trained.crf)
    np.testing.assert_array_equal(open_labeller(network, trained, image)(Controls()), labels)
    (_, dice) = dice_per_class(labels, data[0].raters[0], 2)
    plain, with_crf = (score.dice["stripe"] for score in trainer.history)
    assert with_crf == pytest.approx(dice)
    assert plain == pytest.approx(dice_per_class(logits.argmax(0), data[0].raters[0], 2)[1])


def predicted_logits(network: SegmentationNetwork, spec, image: Image) -> np.ndarray:
    from napari_structseg.prediction.predictor import Predictor

    with torch.no_grad():
        return Predictor(network, spec).predict(image).mean().numpy()


# What does not fit.


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prior": PriorConfig()}, "not both"),
        ({"head": HeadSpec(rank=2)}, "mean"),
        ({"head": HeadSpec(kind="ensemble")}, "point has one"),
        ({"max_margin": {"cost": 0}}, "greater than 0"),
        ({"max_margin": {"mode": "both"}}, "joint"),
    ],
)
def test_what_cannot_be_learned_is_said(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        margin_config(**fields)


def test_a_stochastic_head_may_get_a_crf_afterwards() -> None:
    assert margin_config("piecewise", head=HeadSpec(rank=2)).model_frozen


def test_more_than_two_classes_are_refused(tmp_path: Path) -> None:
    config = margin_config()
    spec = make_spec(config, classes=CLASSES)
    with pytest.raises(ConfigError, match="there are 4: Background, CSF"):
        Trainer(config, spec, ImagePatches(cases(), config), tmp_path, initial=start(config))


def test_a_network_to_start_from_is_needed() -> None:
    for mode in ("joint", "piecewise"):
        with pytest.raises(ConfigError, match="--start MODEL"):
            require_start(margin_config(mode), given=False)


def test_labellings_of_a_damaged_checkpoint_are_refused(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    config = margin_config()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tmp_path, config).run(stop_at(1))
    path = tmp_path / CHECKPOINT_NAME
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for name, tensor in (
        ("margin/0/7", torch.zeros((1, 8), dtype=torch.uint8)),
        ("margin/0/0", torch.zeros((1, 7), dtype=torch.uint8)),
        ("margin/0/0", torch.zeros((1, 8))),
        ("margin/5/0", torch.zeros((1, 8), dtype=torch.uint8)),
        ("margin/x", torch.zeros((1, 8), dtype=torch.uint8)),
    ):
        save_file(tensors | {name: tensor}, path, metadata=metadata)
        with pytest.raises(WeightsError, match="labellings"):
            trainer_of(tmp_path, config, resume=True)


# On the command line.


def test_a_crf_is_trained_from_a_file_of_settings(dataset, tmp_path: Path, capsys) -> None:
    plain = write_config(tmp_path)
    text = plain.read_text().replace("rank = 2", 'kind = "point"')
    plain.write_text(text)
    assert train(dataset, plain, tmp_path / "plain") == 0
    settings = tmp_path / "margin.toml"
    settings.write_text(text + '\n[max_margin]\nmode = "piecewise"\nrounds = 3\nscale = 2\n')
    assert read_config(settings).max_margin.rounds == 3
    capsys.readouterr()
    assert train(dataset, settings, tmp_path / "refused") == 2
    assert "learns on top of a trained network" in capsys.readouterr().err
    started = f"--start={tmp_path / 'plain' / WEIGHTS_NAME}"
    assert train(dataset, settings, tmp_path / "crf", started) == 0
    ours, theirs = (load_file(tmp_path / name / WEIGHTS_NAME) for name in ("plain", "crf"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    learned = load_weights(tmp_path / "crf" / WEIGHTS_NAME)[1].crf
    assert learned is not None
    assert learned.scale == 2
    # Whoever uses the model begins with these weights, and can see them.
    model, out = str(tmp_path / "crf" / WEIGHTS_NAME), tmp_path / "result"
    capsys.readouterr()
    assert main(["info", model]) == 0
    assert f"weights {learned.unary:.4g} (model)" in capsys.readouterr().out
    image = str(dataset / "imagesTr" / "c0_0000.nii.gz")
    assert main(["predict", image, f"--model={model}", f"--out={out}", "--cut"]) == 0
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["controls"]["cut"] == learned.model_dump()
