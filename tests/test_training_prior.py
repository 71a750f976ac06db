"""Training with a Markov random field over the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.data.cases import ReadCase
from napari_structseg.errors import ConfigError
from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights, save_weights
from napari_structseg.models import (
    BackboneSpec,
    ClassSpec,
    HeadSpec,
    LogitParameters,
    ModelSpec,
    build_network,
)
from napari_structseg.priors import NetworkPrior, PriorSpec, refine
from napari_structseg.training.checkpoint import read_checkpoint
from napari_structseg.training.config import LossConfig, PriorConfig, TrainConfig, read_config
from napari_structseg.training.objectives.losses import cross_entropy, prior_cross_entropy
from napari_structseg.training.objectives.objective import Objective, drawn_iterations
from napari_structseg.training.start import adopt, check_prior, start_from
from napari_structseg.training.trainer import CHECKPOINT_NAME, WEIGHTS_NAME, Trainer
from napari_structseg.training.validation import (
    open_labeller,
    validate_on_cases,
    validate_on_patches,
)
from test_cli_train import dataset, train, write_config  # noqa: F401
from test_training import Stripes, make_config, make_spec, same_files, stop_at
from tiny_models import tiny_model

KINDS = ("network", "energy")
POINT = HeadSpec(kind="point")


def prior_config(**fields) -> TrainConfig:
    """A point head with a prior of few iterations, unless told otherwise."""
    asked = {"iterations": 3, "min_iterations": 1, "max_iterations": 4} | fields.pop("prior", {})
    prior = PriorConfig(**asked)
    return make_config(**{"head": POINT, "loss": LossConfig(samples=4), "prior": prior, **fields})


def spec_of(config: TrainConfig, **fields) -> ModelSpec:
    return make_spec(
        config,
        **{
            "prior": config.prior_spec,
            "zero_is_background": config.loss.zero_is_background,
            **fields,
        },
    )


def trainer_of(folder: Path, config: TrainConfig, **options) -> Trainer:
    return Trainer(config, options.pop("spec", spec_of(config)), Stripes(), folder, **options)


def trained(folder: Path, config: TrainConfig, **options) -> Path:
    return trainer_of(folder, config, **options).run()


def random_parameters(*shape: int, seed: int = 0) -> LogitParameters:
    generator = torch.Generator().manual_seed(seed)
    return LogitParameters(torch.randn(shape, generator=generator, dtype=torch.float64))


def random_prior(kind: str = "network", dimensions: int = 2, n_classes: int = 3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = PriorSpec(kind=kind).build(dimensions, n_classes).double()
        with torch.no_grad():
            for parameter in prior.parameters():
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return prior


# The loss.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_iterations", [1, 2, 7])
@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
def test_loss_is_the_cross_entropy_of_mean_field(kind, n_iterations: int, shape) -> None:
    parameters, prior = random_parameters(2, 3, *shape), random_prior(kind, len(shape))
    target = torch.randint(3, (2, *shape), generator=torch.Generator().manual_seed(1))
    refined = refine(prior, torch.log_softmax(parameters.mean, dim=1), n_iterations)
    expected = -refined.gather(1, target[:, None]).log().sum() / 2
    loss = prior_cross_entropy(prior, parameters, target, n_iterations)
    torch.testing.assert_close(loss, expected)


def test_a_prior_that_says_nothing_leaves_the_cross_entropy() -> None:
    parameters, prior = random_parameters(2, 3, 5, 6), random_prior()
    with torch.no_grad():
        prior.combine.weight.zero_()
    target = torch.ones((2, 5, 6), dtype=torch.uint8)
    mask = torch.rand((2, 5, 6), generator=torch.Generator().manual_seed(2)) < 0.5
    for where in (None, mask):
        # The message is the bias alone, the same everywhere.
        shifted = LogitParameters(parameters.mean + prior.combine.bias.reshape(1, 3, 1, 1).detach())
        torch.testing.assert_close(
            prior_cross_entropy(prior, parameters, target, 4, mask=where),
            cross_entropy(shifted, target, mask=where),
        )


def test_outside_the_region_of_interest_nothing_counts() -> None:
    parameters, prior = random_parameters(1, 3, 6, 6), random_prior()
    parameters.mean.requires_grad_()
    target = torch.ones((1, 6, 6), dtype=torch.uint8)
    mask = torch.zeros((1, 6, 6), dtype=torch.bool)
    mask[:, :3] = True
    loss = prior_cross_entropy(prior, parameters, target, 5, mask=mask)
    loss.backward()
    assert parameters.mean.grad is not None
    assert not parameters.mean.grad[:, :, 3:].any()
    assert parameters.mean.grad[:, :, :3].abs().min() > 0
    target[:, 3:] = 2
    torch.testing.assert_close(
        prior_cross_entropy(prior, parameters, target, 5, mask=mask).detach(), loss.detach()
    )
    # Neighbours beyond the edge of the region are background, as they are in prediction.
    with torch.no_grad():
        parameters.mean[:, :, 3:] = torch.tensor([20.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(
        prior_cross_entropy(prior, parameters, target, 5, mask=mask).detach(), loss.detach()
    )


def test_certain_mistakes_keep_their_gradient() -> None:
    # R of the true class is e^-400, which no floating-point number below double precision holds.
    mean = torch.tensor([400.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4).clone()
    mean.requires_grad_()
    prior = NetworkPrior(2, 2)
    with torch.no_grad():
        prior.combine.weight.zero_()
        prior.combine.bias.zero_()
    target = torch.ones((1, 4, 4), dtype=torch.uint8)
    loss = prior_cross_entropy(prior, LogitParameters(mean), target, 5)
    assert loss.item() == pytest.approx(16 * 400)
    loss.backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad[:, 1], torch.full((1, 4, 4), -1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_the_loss(kind: str) -> None:
    parameters, prior = random_parameters(1, 2, 3, 4), random_prior(kind, 2, 2)
    target = torch.tensor([[[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]]])

    def loss(mean: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return prior_cross_entropy(prior, LogitParameters(mean), target, 3)

    weights = [w.requires_grad_() for w in prior.parameters()]
    assert torch.autograd.gradcheck(loss, (parameters.mean.requires_grad_(), *weights))


def test_no_iteration_is_no_loss() -> None:
    with pytest.raises(ValueError, match="at least one iteration, got 0"):
        prior_cross_entropy(
            random_prior(), random_parameters(1, 3, 4, 4), torch.zeros((1, 4, 4)), 0
        )


def test_iterations_are_uniform_between_their_limits() -> None:
    drawn = [drawn_iterations(PriorConfig(), 7, step) for step in range(2200)]
    values, counts = np.unique(drawn, return_counts=True)
    assert list(values) == list(range(5, 16))
    # 200 expected of each, with a standard deviation of 13.5.
    assert np.abs(counts - 200).max() < 60
    assert drawn[:9] == [drawn_iterations(PriorConfig(), 7, step) for step in range(9)]
    assert drawn[:30] != [drawn_iterations(PriorConfig(), 8, step) for step in range(30)]


@pytest.mark.parametrize("step", [0, 5])
def test_a_stochastic_head_keeps_its_likelihood(step: int) -> None:
    # mean_only_steps is 3: cross-entropy before, the Monte Carlo likelihood after.
    alone = make_config()
    both = prior_config(head=alone.head, loss=alone.loss)
    network = build_network(spec_of(both))
    images = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 0.5).to(torch.uint8)
    n_iterations = drawn_iterations(both.prior, both.seed, step)
    term = prior_cross_entropy(network.prior, network(images), labels, n_iterations)
    torch.testing.assert_close(
        Objective(both)(network, images, labels, step),
        Objective(alone)(network, images, labels, step) + term,
    )


def test_mixed_precision_computes_in_bfloat16_on_a_processor() -> None:
    plain = make_config()
    half = plain.model_copy(update={"mixed_precision": True})
    network = build_network(spec_of(plain))
    seen: list[torch.dtype] = []
    network.backbone.register_forward_hook(lambda _module, _args, out: seen.append(out.dtype))
    images = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 0.5).to(torch.uint8)
    losses = [Objective(config)(network, images, labels, 0) for config in (plain, half)]
    assert seen == [torch.float32, torch.bfloat16]
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[0], losses[1], rtol=0.05, atol=0)


# The loop.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", [POINT, HeadSpec(rank=2)])
def test_model_and_prior_learn_together(tmp_path: Path, kind: str, head: HeadSpec) -> None:
    config = prior_config(head=head, prior={"kind": kind}, steps=4)
    trainer = trainer_of(tmp_path, config)
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    trainer.run()
    network, spec = load_weights(tmp_path / WEIGHTS_NAME)
    after = network.state_dict()
    assert spec.prior == config.prior.spec
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert not after[next(n for n in after if n.startswith("prior."))][..., 1, 1].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [False, True])
def test_resumed_run_with_a_prior_equals_an_uninterrupted_one(
    tmp_path: Path, kind: str, frozen: bool
) -> None:
    config = prior_config(prior={"kind": kind, "freeze_model": frozen}, steps=7)
    initial = build_network(spec_of(config))
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    trained(straight, config, initial=initial)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(halves, config, initial=initial).run(stop_at(3))
    # The checkpoint holds the frozen model, too.
    trained(halves, config, resume=True)
    assert same_files(straight / WEIGHTS_NAME, halves / WEIGHTS_NAME)
    assert same_files(straight / CHECKPOINT_NAME, halves / CHECKPOINT_NAME)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_frozen_model_stays_bit_for_bit(tmp_path: Path, norm: str) -> None:
    backbone = BackboneSpec(widths=(4, 6), convolutions=(1, 1), norm=norm)
    first = trained(tmp_path / "first", make_config(head=POINT, backbone=backbone))
    config = prior_config(backbone=backbone, prior={"freeze_model": True})
    initial, spec = start_from(str(first), spec_of(config))
    trainer = trainer_of(tmp_path / "second", config, spec=spec, initial=initial)
    fresh = {name: tensor.clone() for name, tensor in trainer.network.prior.state_dict().items()}
    held = {id(p) for group in trainer.optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.network.prior.parameters()}
    trainer.run()
    before = load_weights(first)[0].state_dict()
    after = load_weights(tmp_path / "second" / WEIGHTS_NAME)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(not torch.equal(fresh[name], after[f"prior.{name}"]) for name in fresh)
    checkpoint = read_checkpoint(tmp_path / "second" / CHECKPOINT_NAME)
    assert len({name.partition("/")[0] for name in checkpoint.optimiser}) == len(fresh)


def test_a_prior_cleans_the_labels_of_a_frozen_model(tmp_path: Path) -> None:
    config = prior_config(
        prior={"freeze_model": True}, steps=150, batch=4, optimiser=make_config().optimiser
    )
    source = Stripes(noise=0.7)
    model = make_config(head=POINT, steps=60)
    first = Trainer(model, make_spec(model), source, tmp_path / "first").run()
    initial, spec = start_from(str(first), spec_of(config))
    trainer = Trainer(config, spec, source, tmp_path / "second", initial=initial)
    losses: list[float] = []
    trainer.run(lambda p: losses.append(p.loss))
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:10])


def test_started_prior_is_trained_on(tmp_path: Path) -> None:
    first = trained(tmp_path / "first", prior_config(steps=3))
    # How many iterations are in use is no part of the architecture.
    config = prior_config(prior={"iterations": 20})
    network, spec = start_from(str(first), spec_of(config))
    begun = trainer_of(tmp_path / "second", config, spec=spec, initial=network)
    theirs = load_weights(first)[0].state_dict()
    ours = begun.network.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert spec.prior == config.prior.spec
    assert spec.prior.iterations == 20


def test_a_prior_from_before_there_was_a_limit_of_filters_is_trained_on(tmp_path: Path) -> None:
    classes = tuple(ClassSpec(name=f"class {n}", color="#000000") for n in range(9))
    config = prior_config()
    spec = spec_of(config).model_copy(update={"classes": classes})
    older = spec.model_copy(update={"prior": PriorSpec(iterations=3)})
    with torch.random.fork_rng():
        save_weights(tmp_path / "older.safetensors", build_network(older), older)
        network, started = start_from(str(tmp_path / "older.safetensors"), spec)
        assert len(network.prior.kernel()) == 81
        assert len(build_network(started).prior.kernel()) == 81
        assert len(build_network(spec).prior.kernel()) == 64
        adopt(build_network(started), network)
        check_prior(config, started)


# What does not fit.


def test_freezing_needs_a_model_to_start_from(tmp_path: Path) -> None:
    config = prior_config(prior={"freeze_model": True})
    with pytest.raises(ConfigError, match=r"freeze_model = true .* Name it with --start MODEL"):
        trainer_of(tmp_path, config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"kind": "energy"}, r"prior of kind 'network', but .* a prior of kind 'energy'"),
        (None, r"prior of kind 'network', but .* asks for no prior"),
    ],
)
def test_start_from_another_prior_is_refused(tmp_path: Path, asked, reason: str) -> None:
    first = trained(tmp_path / "first", prior_config(steps=1))
    config = prior_config(prior=asked) if asked else make_config(head=POINT)
    with pytest.raises(ConfigError, match=reason):
        start_from(str(first), spec_of(config))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dimensions": 3, "patch": (8, 8, 8)}, "its dimensions is 2, but .* say 3"),
        (
            {"classes": (*make_spec(make_config()).classes, {"name": "dot", "color": "#00ff00"})},
            r"its class_names is \('background', 'stripe'\), but .*'dot'",
        ),
    ],
)
def test_start_from_a_prior_of_other_size_is_refused(tmp_path: Path, fields, reason) -> None:
    first = trained(tmp_path / "first", prior_config(steps=1))
    with pytest.raises(ConfigError, match=reason):
        start_from(str(first), spec_of(prior_config(), **fields))


@pytest.mark.parametrize("prior", [None, PriorSpec(kind="energy", iterations=3)])
def test_configuration_and_specification_must_agree(tmp_path: Path, prior) -> None:
    config = prior_config()
    with pytest.raises(ConfigError, match=r"asks for the prior kind='network'.*prior_spec"):
        trainer_of(tmp_path, config, spec=spec_of(config, prior=prior))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kind = 'potts'", r"prior.kind: Input should be 'network' or 'energy' \(got 'potts'\)"),
        ("iterations = 0", "prior.iterations: Input should be greater than or equal to 1"),
        ("max_iterations = 51", "prior.max_iterations: Input should be less than or equal to 50"),
        ("min_iterations = 16", r"prior: min_iterations \(16\) exceeds max_iterations \(15\)"),
        ("strength = 1", "prior.strength: Extra inputs are not permitted"),
    ],
)
def test_table_that_is_wrong_says_where(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'name = "tiny"\ndimensions = 2\npatch = [8, 8]\n[prior]\n{text}\n')
    with pytest.raises(ConfigError, match=reason):
        read_config(path)


def test_table_is_optional_and_has_the_papers_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('name = "tiny"\ndimensions = 2\npatch = [8, 8]\n')
    assert read_config(path).prior is None
    path.write_text(path.read_text() + "[prior]\n")
    prior = read_config(path).prior
    assert prior == PriorConfig()
    assert (prior.mrf.kind, prior.mrf.iterations) == ("network", 10)
    assert (prior.min_iterations, prior.max_iterations, prior.freeze_model) == (5, 15, False)


# The command.


def with_prior(config: Path, fields: str = "") -> Path:
    text = config.read_text().replace("rank = 2", 'kind = "point"')
    config.write_text(f"{text}\n[prior]\nmax_iterations = 6\n{fields}\n")
    return config


def test_command_trains_a_prior_on_a_frozen_model(dataset, tmp_path: Path, capsys) -> None:
    plain = write_config(tmp_path)
    plain.write_text(plain.read_text().replace("rank = 2", 'kind = "point"'))
    assert train(dataset, plain, tmp_path / "first") == 0
    first = tmp_path / "first" / WEIGHTS_NAME
    frozen = with_prior(write_config(tmp_path), "freeze_model = true")
    assert train(dataset, frozen, tmp_path / "second", "--start", str(first)) == 0
    assert "Dice cube" in capsys.readouterr().out
    before, after = (load_weights(tmp_path / f / WEIGHTS_NAME)[0] for f in ("first", "second"))
    for name, tensor in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor)
    assert isinstance(after.prior, NetworkPrior)
    assert train(dataset, frozen, tmp_path / "second", "--resume") == 0


def test_command_refuses_to_freeze_nothing_before_data_is_read(tmp_path: Path, capsys) -> None:
    config = with_prior(write_config(tmp_path), "freeze_model = true")
    assert train(tmp_path / "none", config, tmp_path / "run") == 2
    assert "Name it with --start MODEL" in capsys.readouterr().err


# Validation.


def shown(network, spec: ModelSpec, image: np.ndarray) -> np.ndarray:
    labels = open_labeller(network, spec, Image.from_array(image, channel_axis=0))
    return labels(Controls())


def test_validation_uses_the_iterations_in_use() -> None:
    config = prior_config()
    network = build_network(spec_of(config)).eval()
    with torch.no_grad():
        # Whatever the neighbours are, they speak for the other class, in turn.
        network.prior.combine.weight.zero_()
        network.prior.combine.bias.copy_(torch.tensor([-1e3, 1e3]))
    image = np.random.default_rng(0).random((1, 13, 9), dtype=np.float32)
    without = spec_of(config, prior=None)
    alone = shown(network, without, image)
    assert not alone.all()
    assert shown(network, spec_of(config), image).all()
    labels = np.ones((13, 9), np.uint8)
    case = ReadCase("case", "", Image.from_array(image, channel_axis=0), labels[None])
    for spec, expected in ((spec_of(config), 1.0), (without, alone.mean())):
        dice = pytest.approx(2 * expected / (1 + expected))
        assert validate_on_cases([case], spec)(network, 0).dice["stripe"] == dice
        assert validate_on_patches([(image, labels)], spec)(network, 0).dice["stripe"] == dice


def test_validation_leaves_out_voxels_without_data() -> None:
    config = prior_config(loss=LossConfig(zero_is_background=True))
    network = build_network(spec_of(config)).eval()
    with torch.no_grad():
        network.head.mean.bias.copy_(torch.tensor([-9.0, 9.0]))
        network.prior.combine.weight.zero_()
        network.prior.combine.bias.zero_()
    image = np.random.default_rng(0).random((1, 8, 8), dtype=np.float32) + 1
    image[:, :3] = 0
    labels = shown(network, spec_of(config), image)
    assert not labels[:3].any()
    assert labels[3:].all()


# Files.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_weights_of_a_prior_survive_a_file(tmp_path: Path, kind: str, dimensions: int) -> None:
    config = prior_config(
        dimensions=dimensions, patch=(8,) * dimensions, prior={"kind": kind, "iterations": 12}
    )
    spec = spec_of(config, dimensions=dimensions)
    network = build_network(spec).eval()
    path = tmp_path / "model.safetensors"
    save_weights(path, network, spec)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    loaded, described = load_weights(path)
    assert torch.equal(torch.rand(3), expected)
    assert described == spec
    assert not loaded.training
    assert {name.partition(".")[0] for name in loaded.state_dict()} == {"backbone", "head", "prior"}
    unary = torch.log_softmax(torch.rand((1, 2, *[5] * dimensions)), dim=1)
    assert torch.equal(refine(loaded.prior, unary, 3), refine(network.prior, unary, 3))
    assert torch.equal(loaded.prior.compatibility(), network.prior.compatibility())


def test_the_papers_prior_has_1812_parameters() -> None:
    classes = [{"name": str(k), "color": "#000000"} for k in range(4)]
    config = prior_config(dimensions=3, patch=(8, 8, 8))
    network = build_network(spec_of(config, dimensions=3, classes=classes))
    assert sum(p.numel() for p in network.prior.parameters()) == 1812


def test_a_frozen_network_keeps_the_patch_size_it_was_trained_with(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.safetensors")
    _, theirs = load_weights(path)
    smaller = theirs.model_copy(update={"patch": (8, 8, 8), "prior": PriorSpec()})
    assert start_from(str(path), smaller, frozen=True)[1].patch == (16, 16, 16)
    assert start_from(str(path), smaller)[1].patch == (8, 8, 8)
