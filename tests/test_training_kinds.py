"""`structseg train` for every kind of head, and that latents do not collapse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_structseg.cli import main
from napari_structseg.io.weights import load_weights
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec, build_network
from napari_structseg.models.latent import LatentNetwork
from napari_structseg.training.config import OptimiserConfig, TrainConfig
from napari_structseg.training.objectives.latent_losses import normal_divergence
from napari_structseg.training.sources import build_run
from napari_structseg.training.trainer import Trainer
from stacks import write_stack

KINDS = (
    *("point", "low_rank", "latent", "hierarchical"),
    *("heads", "ensemble", "dropout", "image2image_vae"),
)
TOML = """
name = "tiny"
dimensions = 2
patch = [12, 12]
batch = 2
steps = {steps}
foreground = 0
validation_cases = 2
validate_every = 3
checkpoint_every = 2
[intensity]
kind = "window"
low = 0
high = 255
[backbone]
widths = [4, 6]
convolutions = [1, 1]
norm = "batch"
[head]
kind = "{kind}"
rank = 2
members = 2
latent_size = 2
latent_scales = 1
[loss]
samples = 2
{loss}
[augmentation]
flip_axes = [0, 1]
quarter_turns = true
"""


def train(folder: Path, kind: str, out: str, *options: str, loss: str = "", steps: int = 4) -> int:
    config = folder / f"{out}.toml"
    config.write_text(TOML.format(kind=kind, loss=loss, steps=steps))
    if not (folder / "data").is_dir():
        write_stack(folder / "data")
    arguments = ["train", str(folder / "data"), "--config", str(config)]
    return main([*arguments, "--out", str(folder / out), "--device", "cpu", *options])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained(kind: str, tmp_path: Path) -> None:
    assert train(tmp_path, kind, "run") == 0
    network, spec = load_weights(tmp_path / "run" / "model.safetensors")
    assert spec.head.kind == kind
    assert spec.training.steps == 4
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = build_network(spec).state_dict()
    learned = network.state_dict()
    moved = {name for name in fresh if not torch.equal(fresh[name], learned[name])}
    assert len(moved) > len(fresh) / 2


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        *(("latent", {"geco_target": 0.05}), ("dropout", {})),
        *(("image2image_vae", {}), ("heads", {})),
        ("hierarchical", {"geco_target": 0.05, "top_k_fraction": 0.1}),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(kind: str, loss: dict, tmp_path: Path) -> None:
    stack = write_stack(tmp_path / "data")
    config = TrainConfig.model_validate(
        {
            **{"name": "tiny", "dimensions": 2, "patch": (12, 12), "steps": 4, "foreground": 0.0},
            "backbone": BackboneSpec(widths=(4, 6), convolutions=(1, 1)),
            "head": HeadSpec(kind=kind, members=2, latent_size=2, latent_scales=1),
            "loss": loss,
            "validation_cases": 0,
            "checkpoint_every": 2,
        }
    )
    spec, source, _ = build_run(config, stack)
    Trainer(config, spec, source, tmp_path / "whole").run()

    def stop(progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(config, spec, source, tmp_path / "parts").run(stop)
    Trainer(config, spec, source, tmp_path / "parts", resume=True).run()
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("kind", "extra", "reason"),
    [
        ("point", "geco_target = 0.1", "geco_target belongs to the heads hierarchical, image2im"),
        ("heads", "top_k_fraction = 0.1", "top_k_fraction belongs to the heads hierarchical, im"),
        ("latent", "beta = 0", "beta"),
        ("latent", "[prior]", "cannot be trained together with a prior"),
    ],
)
def test_configuration_that_contradicts_itself_is_refused(
    kind: str, extra: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, kind, "run", loss=extra) == 2
    assert reason in capsys.readouterr().err


class OneOfTwo:
    """The same square in every image, which one rater of two sees."""

    def patch(self, rng: np.random.Generator):
        image = 0.25 + 0.03 * rng.standard_normal((1, 16, 16)).astype(np.float32)
        image[0, 4:12, 4:12] += 0.25
        labels = np.zeros((16, 16), np.uint8)
        labels[5:11, 5:11] = rng.integers(2)
        return image, labels


def trained_on_one_of_two(folder: Path, beta: float) -> LatentNetwork:
    config = TrainConfig.model_validate(
        {
            **{"name": "two", "dimensions": 2, "patch": (16, 16), "batch": 8, "steps": 250},
            "backbone": BackboneSpec(widths=(8, 8), convolutions=(1, 1), norm="none"),
            "head": HeadSpec(kind="latent", latent_size=2),
            "optimiser": OptimiserConfig(learning_rate=1e-2, warmup_steps=10),
            "loss": {"beta": beta},
            "validation_cases": 0,
            "validate_every": 1000,
            "checkpoint_every": 1000,
        }
    )
    spec, _, _ = build_run(config, write_stack(folder / "names"))
    trainer = Trainer(config, spec, OneOfTwo(), folder / "run")
    trainer.run()
    assert isinstance(trainer.network, LatentNetwork)
    return trainer.network.eval()


# With the cross-entropy summed over 256 pixels, beta = 256 is its mean with beta = 1.
@pytest.mark.parametrize(("beta", "collapses"), [(1.0, False), (256.0, True)])
def test_mean_cross_entropy_collapses_where_the_sum_does_not(
    beta: float, collapses: bool, tmp_path: Path
) -> None:
    network = trained_on_one_of_two(tmp_path, beta)
    rng, generator = np.random.default_rng(9), torch.Generator().manual_seed(4)
    patches = [OneOfTwo().patch(rng) for _ in range(16)]
    images = torch.from_numpy(np.stack([image for image, _ in patches]))
    labels = torch.from_numpy(np.stack([label for _, label in patches]))
    with torch.inference_mode():
        decoded = network.reconstruct(images, labels, generator)
        divergence = float(normal_divergence(decoded.posterior, decoded.prior).mean())
        first = network.first(images[:1])
        mean, sigma = (part[:1] for part in decoded.prior)
        z = mean + sigma * torch.randn((200, 2), generator=generator)
        sizes = network.head(first.expand(200, -1, -1, -1), z).argmax(dim=1).flatten(1).sum(dim=1)
    # Opinions differ by one bit, ln 2 nats; a tenth of it says that the latents carry nothing.
    assert (divergence < 0.07) == collapses
    nothing, everything = (sizes < 4).sum(), (sizes > 25).sum()
    assert (min(nothing, everything) > 10) != collapses


@pytest.mark.parametrize(
    ("kind", "scale"),
    [*((kind, 64) for kind in ("latent", "hierarchical", "image2image_vae")), ("low_rank", 1)],
)
def test_weight_decay_is_beside_the_sum_over_voxels(kind: str, scale: int, tmp_path: Path) -> None:
    """As published, 1e-5 beside the evidence lower bound of an image, not of a voxel."""
    config = TrainConfig.model_validate(
        {
            **{"name": "tiny", "dimensions": 3, "patch": (4, 4, 4), "steps": 1},
            "backbone": BackboneSpec(widths=(4, 6), convolutions=(1, 1)),
            "head": HeadSpec(kind=kind, latent_size=2, latent_scales=1),
        }
    )
    spec = ModelSpec(
        name="tiny",
        dimensions=3,
        channels=("grey",),
        classes=tuple(ClassSpec(name=name, color="#000000") for name in ("none", "some")),
        patch=config.patch,
        backbone=config.backbone,
        head=config.head,
    )
    (group,) = Trainer(config, spec, Cubes(), tmp_path).optimiser.param_groups
    assert group["weight_decay"] * scale == pytest.approx(1e-5)


class Cubes:
    """A source whose patches are never asked for."""

    def patch(self, rng: np.random.Generator):
        raise AssertionError("no step is taken")
