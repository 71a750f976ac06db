from __future__ import annotations

import logging
import re
import signal
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_structseg.errors import (
    Cancelled,
    ConfigError,
    InputError,
    StructSegError,
    WeightsError,
)
from napari_structseg.io.weights import load_weights
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec
from napari_structseg.training.checkpoint import CheckpointState, ValidationScore, read_checkpoint
from napari_structseg.training.config import LossConfig, OptimiserConfig, TrainConfig, read_config
from napari_structseg.training.trainer import (
    BEST_NAME,
    CHECKPOINT_NAME,
    WEIGHTS_NAME,
    Progress,
    Trainer,
    learning_rate,
)
from napari_structseg.training.validation import Validation

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
MINIMAL = 'name = "tiny"\ndimensions = 2\npatch = [8, 8]\n'


class Stripes:
    """Bright stripes are the object; every patch has its own noise."""

    def __init__(self, noise: float = 0.3) -> None:
        self.noise = noise

    def patch(self, rng: np.random.Generator):
        labels = np.zeros((8, 8), np.uint8)
        labels[:, rng.integers(8)] = 1
        image = labels + self.noise * rng.standard_normal(labels.shape)
        return image[None].astype(np.float32), labels


class Poisoned(Stripes):
    """From some patch on, images hold NaN, as a broken source would give."""

    def patch(self, rng: np.random.Generator):
        image, labels = super().patch(rng)
        return np.full_like(image, np.nan), labels


def make_config(**fields) -> TrainConfig:
    return TrainConfig(
        **{
            "name": "tiny",
            "dimensions": 2,
            "patch": (8, 8),
            "batch": 2,
            "steps": 12,
            "seed": 3,
            "backbone": BackboneSpec(widths=(4, 6), convolutions=(1, 1)),
            "head": HeadSpec(rank=2),
            "loss": LossConfig(samples=4, mean_only_steps=3),
            "optimiser": OptimiserConfig(learning_rate=1e-2, warmup_steps=2),
            "validate_every": 5,
            "checkpoint_every": 4,
            **fields,
        }
    )


def make_spec(config: TrainConfig, **fields) -> ModelSpec:
    classes = (
        ClassSpec(name="background", color="#000000"),
        ClassSpec(name="stripe", color="#ff0000"),
    )
    return ModelSpec(
        **{
            "name": config.name,
            "dimensions": 2,
            "channels": ("grey",),
            "classes": classes,
            "patch": config.patch,
            "backbone": config.backbone,
            "head": config.head,
            **fields,
        }
    )


def make_trainer(folder: Path, config: TrainConfig | None = None, **options) -> Trainer:
    config = config or make_config()
    source = options.pop("source", Stripes())
    spec = options.pop("spec", make_spec(config))
    return Trainer(config, spec, source, folder, **options)


def dice_of(value: Callable[[int], float]) -> Callable[..., Validation]:
    """A validator that gives a made-up Dice for each call in turn."""
    calls = iter(range(100))
    return lambda network, n_samples: Validation({"stripe": value(next(calls))})


def stop_at(step: int, exception: type[BaseException] = KeyboardInterrupt):
    def report(progress: Progress) -> None:
        if progress.step == step:
            raise exception

    return report


def same_files(first: Path, second: Path) -> bool:
    ours, theirs = load_file(first), load_file(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("norm", ["instance", "batch", "weight"])
@pytest.mark.parametrize("stop", [1, 3, 5, 11])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, stop: int, norm: str
) -> None:
    config = make_config(backbone=BackboneSpec(widths=(4, 6), convolutions=(1, 1), norm=norm))
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    losses: dict[str, list[float]] = {"straight": [], "halves": []}
    make_trainer(straight, config).run(lambda p: losses["straight"].append(p.loss))

    def stopping(progress: Progress) -> None:
        losses["halves"].append(progress.loss)
        if progress.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(halves, config).run(stopping)
    resumed = make_trainer(halves, config, resume=True)
    assert resumed.step == resumed.saved_step == stop
    resumed.run(lambda p: losses["halves"].append(p.loss))
    assert losses["halves"] == losses["straight"]
    assert same_files(straight / WEIGHTS_NAME, halves / WEIGHTS_NAME)
    assert same_files(straight / CHECKPOINT_NAME, halves / CHECKPOINT_NAME)


def test_history_and_best_weights_survive_a_resume(tmp_path: Path) -> None:
    def stepwise(calls: int) -> float:
        return (0.2, 0.6, 0.4)[calls]

    straight = make_trainer(tmp_path / "straight", validate=dice_of(stepwise))
    straight.run()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "halves", validate=dice_of(stepwise)).run(stop_at(7))
    resumed = make_trainer(
        tmp_path / "halves", validate=dice_of(lambda calls: stepwise(calls + 1)), resume=True
    )
    resumed.run()
    assert [score.step for score in resumed.history] == [5, 10, 12]
    assert resumed.history == straight.history
    _, spec = load_weights(tmp_path / "halves" / BEST_NAME)
    assert spec.training.steps == 10
    assert same_files(tmp_path / "straight" / BEST_NAME, tmp_path / "halves" / BEST_NAME)


def test_loss_falls_on_a_trivial_problem(tmp_path: Path) -> None:
    config = make_config(steps=80, batch=4, loss=LossConfig(samples=8, mean_only_steps=30))
    losses: list[float] = []
    make_trainer(tmp_path, config).run(lambda p: losses.append(p.loss))
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:5])
    network, spec = load_weights(tmp_path / WEIGHTS_NAME)
    assert spec.training.steps == 80
    image, labels = Stripes().patch(np.random.default_rng(99))
    with torch.inference_mode():
        predicted = network(torch.from_numpy(image[None])).mean[0].argmax(dim=0)
    assert (predicted.numpy() == labels).mean() > 0.95


@pytest.mark.parametrize(
    "head", [HeadSpec(kind="point"), HeadSpec(diagonal_only=True), HeadSpec(rank=3)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_every_head_trains(tmp_path: Path, head: HeadSpec, masked: bool) -> None:
    loss = LossConfig(samples=4, antithetic=True, zero_is_background=masked)
    trainer = make_trainer(tmp_path, make_config(head=head, loss=loss, steps=3))
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    trainer.run()
    after = trainer.network.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_zero_is_background_leaves_out_voxels_without_data(tmp_path: Path) -> None:
    class Dark(Stripes):
        def patch(self, rng):
            image, labels = super().patch(rng)
            return np.zeros_like(image), labels

    config = make_config(loss=LossConfig(samples=2, zero_is_background=True), steps=1)
    losses: list[float] = []
    make_trainer(tmp_path, config, source=Dark()).run(lambda p: losses.append(p.loss))
    assert losses == [0.0]


def test_building_a_trainer_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make_trainer(tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, Cancelled])
def test_stopping_keeps_the_work(tmp_path: Path, exception: type[BaseException]) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(exception):
        trainer.run(stop_at(6, exception))
    assert read_checkpoint(tmp_path / CHECKPOINT_NAME).state.step == 6
    assert trainer.saved_step == 6
    assert load_weights(tmp_path / WEIGHTS_NAME)[1].training.steps == 6


def test_ctrl_c_waits_for_the_end_of_the_step(tmp_path: Path, caplog) -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(tmp_path)

    def press() -> None:
        if trainer.step == 4:
            signal.raise_signal(signal.SIGINT)

    trainer.optimiser.register_step_pre_hook(lambda *_: press())
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert "press Ctrl-C again" in caplog.text
    assert read_checkpoint(tmp_path / CHECKPOINT_NAME).state.step == 5
    assert signal.getsignal(signal.SIGINT) is before
    straight = tmp_path / "straight"
    make_trainer(straight).run()
    make_trainer(tmp_path, resume=True).run()
    assert same_files(straight / WEIGHTS_NAME, tmp_path / WEIGHTS_NAME)


def test_second_ctrl_c_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)

    def press() -> None:
        if trainer.step == 6:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    trainer.optimiser.register_step_post_hook(lambda *_: press())
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.saved_step == 4
    assert read_checkpoint(tmp_path / CHECKPOINT_NAME).state.step == 4


def test_failing_source_is_not_hidden(tmp_path: Path) -> None:
    class Broken(Stripes):
        def patch(self, rng):
            raise InputError("The disk is gone.")

    with pytest.raises(InputError, match="The disk is gone"):
        make_trainer(tmp_path, source=Broken()).run()


def test_divergence_ends_the_run_with_advice(tmp_path: Path, caplog) -> None:
    trainer = make_trainer(tmp_path, make_config(steps=200), source=Poisoned())
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(StructSegError, match="Training diverged: the last 50 gradients"),
    ):
        trainer.run()
    assert "step 0 skipped" in caplog.text
    assert all(torch.equal(before[k], v) for k, v in trainer.network.state_dict().items())


def test_checkpoint_with_a_loss_that_is_no_number_can_be_read(tmp_path: Path) -> None:
    config = make_config(steps=5)
    make_trainer(tmp_path, config, source=Poisoned(), validate=dice_of(lambda _: 0.0)).run()
    (score,) = read_checkpoint(tmp_path / CHECKPOINT_NAME).state.history
    assert np.isnan(score.loss)


def test_validation_without_any_defined_class_is_no_error(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, validate=lambda network, n_samples: Validation({}))
    trainer.run()
    assert [score.dice for score in trainer.history] == [{}, {}, {}]
    assert (tmp_path / BEST_NAME).exists()


def test_finished_run_can_be_resumed_and_does_nothing(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    before = load_file(tmp_path / WEIGHTS_NAME)
    reports: list[Progress] = []
    make_trainer(tmp_path, resume=True).run(reports.append)
    assert reports == []
    after = load_file(tmp_path / WEIGHTS_NAME)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_resume_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no checkpoint at .* to resume from"):
        make_trainer(tmp_path, resume=True)


def test_resume_with_another_configuration_names_what_differs(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    with pytest.raises(ConfigError, match=r"different: batch, seed\)"):
        make_trainer(tmp_path, make_config(seed=4, batch=3), resume=True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"channels": ("red",)}, "for the channels grey, but the data has red"),
        (
            {
                "classes": (
                    ClassSpec(name="stripe", color="#000000"),
                    ClassSpec(name="background", color="#ff0000"),
                )
            },
            "for the classes background, stripe, but the data has stripe, background",
        ),
    ],
)
def test_resume_with_other_data_is_refused(tmp_path: Path, fields, reason: str) -> None:
    make_trainer(tmp_path).run()
    spec = make_spec(make_config(), **fields)
    with pytest.raises(ConfigError, match=reason):
        make_trainer(tmp_path, spec=spec, resume=True)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x80\x04pickled"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT_NAME).write_bytes(content)
    with pytest.raises(WeightsError, match="is not a readable checkpoint"):
        make_trainer(tmp_path, resume=True)


def test_weights_are_no_checkpoint(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    (tmp_path / WEIGHTS_NAME).replace(tmp_path / CHECKPOINT_NAME)
    with pytest.raises(WeightsError, match="is not a readable checkpoint"):
        make_trainer(tmp_path, resume=True)


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    config = make_config()
    make_trainer(tmp_path, config).run()
    spec = make_spec(config, head=HeadSpec(rank=5))
    with pytest.raises(WeightsError, match=r"do not fit the network.*'head.factor"):
        make_trainer(tmp_path, config, spec=spec, resume=True)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Cannot make the folder .*file/run"):
        make_trainer(tmp_path / "file" / "run").run()


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = make_config(steps=100, optimiser=OptimiserConfig(learning_rate=1, warmup_steps=10))
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[9] == rates[10] == 1
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 1e-3


def test_scores_survive_json() -> None:
    score = ValidationScore(step=1, loss=float("inf"), dice={"a": 0.5})
    state = CheckpointState(step=1, config_json="{}", history=[score])
    assert CheckpointState.model_validate_json(state.model_dump_json()) == state


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_configuration_has_defaults(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, MINIMAL))
    assert config == TrainConfig(name="tiny", dimensions=2, patch=(8, 8))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('name = "x', "is not valid TOML"),
        ("dimensions = 2\npatch = [8, 8]", "name: Field required"),
        (MINIMAL + "step = 5", r"step: Extra inputs are not permitted \(got 5\)"),
        (MINIMAL + "steps = 0", r"steps: Input should be greater than 0 \(got 0\)"),
        (MINIMAL + "[loss]\nsampels = 5", r"loss.sampels: Extra inputs"),
        (MINIMAL + "[loss]\nsamples = 3\nantithetic = true", "even number of samples, got 3"),
        (MINIMAL + "[loss]\nmean_only_steps = 5000", r"mean_only_steps \(5000\) exceeds steps"),
        (MINIMAL + "[augmentation]\nflip_axes = [2]", "must lie between 0 and 1"),
        (MINIMAL + "[optimiser]\nlearning_rate = inf", "learning_rate: Input should be a finite"),
        (MINIMAL + 'colors = ["red", "blue"]', "colors.0: String should match pattern"),
        (MINIMAL + "spacing = [1.0]", "needs 2 values"),
        (MINIMAL + 'source = "brain-label-maps"', "dimensions must be 3"),
        ('name = "tiny"\ndimensions = 3\npatch = [8, 8]', r"patch \[8, 8\] needs 3 sizes"),
        (MINIMAL + "[backbone]\nwidths = [4, 8]", "one number of convolutions per level"),
    ],
)
def test_configuration_that_is_wrong_says_where(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=reason) as raised:
        read_config(path)
    assert str(path) in str(raised.value)
    assert "Value error" not in str(raised.value)


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "x"\ndimensions = 4\npatch = [0]\nbatch = -1')
    with pytest.raises(ConfigError) as raised:
        read_config(path)
    assert all(
        re.search(rf"^  {name}", str(raised.value), re.MULTILINE)
        for name in ("dimensions", "patch.0", "batch")
    )


def test_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read the configuration .*nothing.toml"):
        read_config(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("path", "dimensions"),
    [
        ("brain_tissue/ssn.toml", 3),
        ("brain_tissue/unet.toml", 3),
        ("brain_tissue/prior.toml", 3),
        ("brain_tissue/mean.toml", 3),
        ("brain_tissue/likelihood.toml", 3),
        ("brain_tissue/smoothing.toml", 3),
        ("brain_tissue/gpu-mean.toml", 3),
        ("brain_tissue/gpu-likelihood.toml", 3),
        ("lidc/lung_nodule.toml", 2),
    ],
)
def test_configurations_of_the_experiments_are_valid(path: str, dimensions: int) -> None:
    assert read_config(EXPERIMENTS / path).dimensions == dimensions


@pytest.mark.parametrize("name", ["small", "medium", "long", "full"])
def test_the_models_of_the_lidc_experiment_are_valid(name: str) -> None:
    with (EXPERIMENTS / "lidc" / f"{name}.toml").open("rb") as file:
        config = tomllib.load(file)
    for model, own in config["models"].items():
        made = TrainConfig.model_validate({"name": model, **config["training"], **own})
        assert made.dimensions == 2
        # What is in Hounsfield units is not looked at through a window of 8-bit numbers.
        assert (made.intensity.unit == "HU") == config.get("hounsfield", False)
