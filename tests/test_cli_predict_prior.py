"""`structseg predict` with models that have an MRF."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_structseg import (
    Image,
    Noise,
    PointLogits,
    Predictor,
    Refinement,
    load_model,
    make_controls,
    predict,
    prior_for,
    read_image,
    reproduce,
)
from napari_structseg.cli import main
from napari_structseg.controls import NUDGE_MAX
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.io.references import voxel_hash
from napari_structseg.io.weights import save_weights
from napari_structseg.models import ClassSpec, HeadSpec
from napari_structseg.priors import PriorSpec, contraction_bound, nudged, refine
from napari_structseg.results.recipe_files import read_recipe
from nifti_files import save
from tiny_models import CLASSES, tiny_model

SHAPE = (14, 12, 10)
NAMES = ["mean.nii.gz", "sample-001.nii.gz", "sample-002.nii.gz"]
CLASS_NAMES = [one.name for one in CLASSES]


def blob(*shape: int) -> np.ndarray:
    """A bright noisy ball, nowhere 0."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    noise = np.random.default_rng(0).normal(scale=40, size=shape)
    return np.clip(700 * np.exp(-3 * (grid**2).sum(axis=0)) + noise, 1, None).astype(np.int16)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "T1.nii.gz", blob(*SHAPE), np.diag([-1.0, 2, 3, 1]))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "mrf.safetensors", prior=PriorSpec(iterations=3))


def run(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def labels_in(folder: Path, name: str) -> np.ndarray:
    return read_image(folder / name).data[0]


def assert_same_labels(labels: np.ndarray, responsibilities: torch.Tensor) -> None:
    """Labels are those of the largest responsibility, wherever that is beyond rounding."""
    largest = responsibilities.topk(2, dim=0).values
    decided = (largest[0] - largest[1] > 1e-4).numpy()
    assert decided.mean() > 0.99
    assert np.array_equal(labels[decided], responsibilities.argmax(dim=0).numpy()[decided])


# What is written.


@pytest.mark.parametrize("update", ["parallel", "proximal", "coloured"])
def test_labels_are_those_of_dense_mean_field(update: str, image: Path, tmp_path: Path) -> None:
    kind = "energy" if update == "proximal" else "network"
    path = tiny_model(tmp_path / "m.safetensors", prior=PriorSpec(kind=kind))
    out = tmp_path / "out"
    options = ["--iterations", 4, "--mrf-strength", 0.8, "--damping", 0.7, "--update", update]
    options += ["--nudge", "csf, WHITE MATTER=-0.5", "--nudge", "CSF,Grey matter=0.4"]
    sampling = ["--samples", 2, "--seed", 5, "--temperature", 1.5, "--class-scale", "CSF=0.5"]
    assert run(image, "--model", path, "--out", out, *options, *sampling) == 0

    opened = read_image(image)
    network, spec = load_model(path)
    distribution = Predictor(network, spec).predict(opened)
    prior = nudged(prior_for(network, opened), [(1, 3, -0.5), (1, 2, 0.4)])
    tau = 0.8 * contraction_bound(prior.kernel()) if update == "proximal" else 1.0
    scale = torch.tensor([1.5, 0.75, 1.5, 1.5]).reshape(4, 1, 1, 1)
    for sample, name in enumerate(NAMES):
        logits = distribution.mean()
        if sample:
            logits = logits + scale * distribution.offset(Noise(5, sample))
        unary = logits.log_softmax(dim=0)[None]
        dense = refine(prior, unary, 4, strength=0.8, damping=0.7, update=update, tau=tau)
        written = labels_in(out, name)
        assert_same_labels(written, dense[0])
        assert (written != logits.argmax(dim=0).numpy()).mean() > 0.01


def test_a_model_brings_its_number_of_iterations(image: Path, model: Path, tmp_path: Path) -> None:
    recipe = predict(image, model, tmp_path / "own", samples=1)
    assert recipe.controls.prior.iterations == 3
    three = predict(image, model, tmp_path / "three", samples=1, iterations=3)
    assert three.outputs == recipe.outputs
    none = predict(image, model, tmp_path / "none", samples=1, iterations=0)
    assert (
        predict(image, model, tmp_path / "weak", samples=1, mrf_strength=0).outputs == none.outputs
    )
    assert none.outputs["mean.nii.gz"] != recipe.outputs["mean.nii.gz"]
    assert none.outputs["sample-001.nii.gz"] != recipe.outputs["sample-001.nii.gz"]
    assert none.outputs["entropy.nii.gz"] != recipe.outputs["entropy.nii.gz"]


def test_iterations_that_do_not_settle_are_said(
    image: Path, model: Path, tmp_path: Path, caplog
) -> None:
    predict(image, model, tmp_path / "weak", samples=0, iterations=12, mrf_strength=0.05)
    assert "settle" not in caplog.text
    # Whatever is all around is less likely: all change together, and back.
    repelled = {(one.name, one.name): -NUDGE_MAX for one in CLASSES}
    settings = {"iterations": 12, "mrf_strength": 5, "nudges": repelled}
    predict(image, model, tmp_path / "strong", samples=2, **settings)
    assert caplog.text.count("do not settle: each still changes") == 1


def test_samples_of_a_deterministic_model_are_its_mean(image: Path, tmp_path: Path) -> None:
    path = tiny_model(
        tmp_path / "m.safetensors", head=HeadSpec(kind="point"), prior=PriorSpec(iterations=2)
    )
    recipe = predict(image, path, tmp_path / "out", samples=2)
    assert len({recipe.outputs[name] for name in NAMES}) == 1


def test_two_dimensions(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "flat.safetensors", dimensions=2, prior=PriorSpec(iterations=5))
    image = save(tmp_path / "slice.nii.gz", blob(24, 20))
    predict(image, path, tmp_path / "out", samples=0)
    opened = read_image(image)
    network, spec = load_model(path)
    unary = Predictor(network, spec).predict(opened).mean().log_softmax(dim=0)[None]
    dense = refine(prior_for(network, opened), unary, 5)
    assert_same_labels(labels_in(tmp_path / "out", "mean.nii.gz"), dense[0])


# Axes.


@pytest.mark.parametrize("axes", [(1,), (0, 2), (0, 1, 2)])
def test_an_array_that_runs_the_other_way_gives_the_same_labels(
    axes: tuple[int, ...], model: Path
) -> None:
    network, _ = load_model(model)
    image = Image.from_array(blob(*SHAPE))
    affine = image.geometry.affine.copy()
    for axis in axes:
        affine[:3, 3] += (SHAPE[axis] - 1) * image.geometry.affine[:3, axis]
        affine[:3, axis] *= -1
    flipped = Image.from_array(np.flip(image.data[0], axes).copy(), affine=affine)
    assert set(flipped.geometry.axes_against_ras) ^ set(image.geometry.axes_against_ras) == {*axes}
    logits = torch.randn((4, *SHAPE), generator=torch.Generator().manual_seed(0))
    controls = make_controls(CLASS_NAMES, iterations=4)
    ours = Refinement(PointLogits(logits), prior_for(network, image)).render_volume(controls)
    turned = PointLogits(logits.flip([1 + axis for axis in axes]))
    theirs = Refinement(turned, prior_for(network, flipped)).render_volume(controls)
    unturned = Refinement(turned, prior_for(network, image)).render_volume(controls)
    assert (np.flip(theirs, axes) == ours).mean() > 0.999
    assert (np.flip(unturned, axes) == ours).mean() < 0.99


def test_a_flat_prior_is_mirrored_too(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "flat.safetensors", dimensions=2, prior=PriorSpec())
    network, _ = load_model(path)
    image = read_image(save(tmp_path / "slice.nii.gz", blob(24, 20)))
    axes = image.geometry.axes_against_ras
    assert axes == (0, 1)
    expected = network.prior.kernel().flip([2 + one for one in axes])
    assert torch.equal(prior_for(network, image).kernel(), expected)


def test_a_file_that_is_stored_the_other_way_gives_the_same_labels(
    image: Path, model: Path, tmp_path: Path
) -> None:
    original = nib.load(image)
    turned = original.as_reoriented([[2, -1], [0, 1], [1, -1]])
    nib.save(turned, tmp_path / "turned.nii.gz")
    first = predict(image, model, tmp_path / "first", samples=1)
    second = predict(tmp_path / "turned.nii.gz", model, tmp_path / "second", samples=1)
    assert second.outputs == first.outputs


def test_the_prior_of_a_network_is_not_changed(image: Path, model: Path) -> None:
    network, _ = load_model(model)
    network.prior.requires_grad_(True).train()
    for opened in (read_image(image), Image.from_array(blob(*SHAPE))):
        prior = prior_for(network, opened)
        assert not prior.training
        assert not any(one.requires_grad for one in prior.parameters())
    assert network.prior.training
    assert all(one.requires_grad for one in network.prior.parameters())
    network.prior = None
    assert prior_for(network, read_image(image)) is None


# The recipe.


@pytest.mark.parametrize("update", ["parallel", "proximal", "coloured"])
def test_recipe_gives_the_same_voxels(
    update: str, image: Path, model: Path, tmp_path: Path
) -> None:
    first, again, typed = (tmp_path / name for name in ("first", "again", "typed"))
    options = ["--iterations", 5, "--mrf-strength", 1.3, "--damping", 0.6, "--update", update]
    options += ["--nudge", "grey matter,csf=-0.25", "--samples", 1]
    assert run(image, "--model", model, "--out", first, *options) == 0
    recipe = json.loads((first / "recipe.json").read_text())
    assert recipe["controls"]["prior"] == {
        "source": None,
        "iterations": 5,
        "mrf_strength": 1.3,
        "damping": 0.6,
        "update": update,
        "nudges": [{"classes": ["Grey matter", "CSF"], "amount": -0.25}],
    }
    assert run("--recipe", first / "recipe.json", image, "--out", again) == 0
    command = recipe["command"]
    command[command.index("--out") + 1] = str(typed)
    assert main(command[1:]) == 0
    made = [read_recipe(folder / "recipe.json") for folder in (first, again, typed)]
    assert made[0].outputs == made[1].outputs == made[2].outputs
    assert made[0].controls == made[1].controls == made[2].controls


def test_a_name_with_a_comma_is_quoted(image: Path, tmp_path: Path) -> None:
    named = (*CLASSES[:3], ClassSpec(name="Lesion, old", color="#ee6677"))
    path = tiny_model(tmp_path / "m.safetensors", prior=PriorSpec(iterations=1), classes=named)
    nudge = ["--nudge", '"lesion, old",CSF=1']
    assert run(image, "--model", path, "--out", tmp_path / "out", "--samples", 0, *nudge) == 0
    command = list(read_recipe(tmp_path / "out" / "recipe.json").command)
    assert command[command.index("--nudge") + 1] == '"Lesion, old",CSF=1.0'
    assert main([*command[1:], "--overwrite"]) == 0


def test_a_recipe_from_before_priors_is_for_models_without_one(
    image: Path, model: Path, tmp_path: Path
) -> None:
    plain = tiny_model(tmp_path / "plain.safetensors")
    for name, path in (("plain", plain), ("mrf", model)):
        predict(image, path, tmp_path / name, samples=0, seed=1)
        old = tmp_path / name / "recipe.json"
        content = json.loads(old.read_text())
        del content["controls"]["prior"]
        old.write_text(json.dumps(content))
    reproduce(tmp_path / "plain" / "recipe.json", image, tmp_path / "again")
    with pytest.raises(InputError, match=r"has a prior, but the recipe says nothing about it"):
        reproduce(tmp_path / "mrf" / "recipe.json", image, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_a_recipe_with_a_prior_for_a_model_without_one_is_refused(
    image: Path, tmp_path: Path
) -> None:
    predict(image, tiny_model(tmp_path / "plain.safetensors"), tmp_path / "first", samples=0)
    path = tmp_path / "first" / "recipe.json"
    content = json.loads(path.read_text())
    content["controls"]["prior"] = {
        "iterations": 3,
        "mrf_strength": 1,
        "damping": 1,
        "update": "parallel",
        "nudges": [],
    }
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"has no prior, but the recipe says what it did"):
        reproduce(path, image, tmp_path / "again")


# Input that cannot be used.


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--iterations", "51"), ("--iterations: ", "less than or equal to 50", "got 51")),
        (("--iterations", "-1"), ("iterations", "greater than or equal to 0")),
        (("--iterations", "few"), ("few",)),
        (("--mrf-strength", "6"), ("--mrf-strength", "less than or equal to 5")),
        (("--mrf-strength", "nan"), ("--mrf-strength: ", "nan")),
        (("--damping", "0"), ("damping", "greater than or equal to 0.05")),
        (("--damping", "1.5"), ("damping", "less than or equal to 1")),
        (("--update", "sideways"), ("sideways", "coloured")),
        (("--nudge", "CSF=1"), ("needs NAME,NAME=VALUE", "'CSF=1'")),
        (("--nudge", "CSF,Background,CSF=1"), ("needs NAME,NAME=VALUE",)),
        (("--nudge", "CSF,Background"), ("needs NAME,NAME=VALUE",)),
        (("--nudge", "CSF,Background=much"), ("needs NAME,NAME=VALUE", "much")),
        (("--nudge", '"CSF,Background=1'), ("needs NAME,NAME=VALUE",)),
        (("--nudge", "CSF,tumour=1"), ("Unknown class 'tumour'", "Grey matter")),
        (("--nudge", "CSF,Background=6"), ("--nudge of CSF and Background", "equal to 5")),
        (("--nudge", "CSF,Background=inf"), ("--nudge of CSF and Background",)),
        (("--nudge", "CSF,Background=1", "--nudge", "CSF,Background=1"), ("twice",)),
        (("--nudge", "CSF,Background=1", "--nudge", "background,csf=1"), ("nudged twice",)),
    ],
)
def test_options_out_of_range(options, says, image: Path, model: Path, capsys) -> None:
    out = image.parent / "out"
    assert run(image, "--model", model, "--out", out, *options) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for part in says:
        assert part in message.replace("\n", " ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--iterations", "3"),
        ("--mrf-strength", "1"),
        ("--damping", "1"),
        ("--update", "parallel"),
        ("--nudge", "CSF,Background=1"),
    ],
)
def test_a_model_without_a_prior_refuses_its_controls(
    option: str, value: str, image: Path, tmp_path: Path, capsys
) -> None:
    plain = tiny_model(tmp_path / "plain.safetensors")
    out = tmp_path / "out"
    assert run(image, "--model", plain, "--out", out, option, value) == 2
    message = capsys.readouterr().err
    for part in ("A model with a prior was expected", "'plain' has none", "Leave that out"):
        assert part in message
    assert not out.exists()


def test_controls_of_the_prior_beside_a_recipe(image: Path, model: Path, tmp_path: Path) -> None:
    predict(image, model, tmp_path / "first", samples=0)
    recipe = tmp_path / "first" / "recipe.json"
    for option in (("--iterations", 1), ("--update", "coloured"), ("--nudge", "CSF,CSF=1")):
        assert run("--recipe", recipe, image, "--out", tmp_path / "out", *option) == 2
    assert not (tmp_path / "out").exists()


def test_a_pair_is_two_names(image: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"between two classes, but it is given for 'CSF'"):
        predict(image, model, tmp_path / "out", nudges={"CSF": 1.0})


def test_a_prior_that_overflows_leaves_earlier_results(
    image: Path, model: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    predict(image, model, out, samples=0)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    network, spec = load_model(model)
    with torch.no_grad():
        network.prior.combine.weight.mul_(1e38)
        network.prior.neighbours.weight.mul_(1e10)
    save_weights(tmp_path / "huge.safetensors", network, spec)
    arguments = ("--model", tmp_path / "huge.safetensors", "--out", out, "--overwrite")
    assert run(image, *arguments) == 2
    assert "Lower the strength" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


# Information.


def test_info_shows_the_prior(model: Path, tmp_path: Path, capsys) -> None:
    assert main(["info", str(model)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "MRF-UNet network; 3 iterations of mean field; 1,812 parameters" in printed
    assert main(["info", str(model), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["prior"] == {"kind": "network", "iterations": 3, "max_filters": None}
    assert described["prior_parameters"] == 1812
    plain = tiny_model(tmp_path / "plain.safetensors")
    assert main(["info", str(plain)]) == 0
    assert "Prior none" in " ".join(capsys.readouterr().out.split())


def test_probabilities_are_those_of_mean_field(image: Path, model: Path, tmp_path: Path) -> None:
    options = ("--samples", 2, "--iterations", 3, "--save-probabilities")
    assert run(image, "--model", model, "--out", tmp_path / "out", *options) == 0
    written = read_image(tmp_path / "out" / "probabilities.nii.gz")
    network, spec = load_model(model)
    opened = read_image(image)
    distribution = Predictor(network, spec).predict(opened)
    refinement = Refinement(distribution, prior_for(network, opened))
    parts = [
        refinement.probabilities(make_controls(spec.class_names, sample=sample, iterations=3))
        for sample in (1, 2)
    ]
    np.testing.assert_allclose(written.data, (parts[0] + parts[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(written.data.sum(axis=0), 1, atol=1e-5)
    # The entropy is of the same probabilities, whether they are written or not.
    entropy = read_image(tmp_path / "out" / "entropy.nii.gz").data[0]
    nats = torch.special.entr(torch.from_numpy(written.data)).sum(dim=0)
    np.testing.assert_allclose(entropy, nats, atol=1e-5)
    without = predict(image, model, tmp_path / "without", samples=2, iterations=3)
    of_file = voxel_hash(entropy.astype(np.float32))
    assert without.outputs["entropy.nii.gz"] == of_file
    again = reproduce(tmp_path / "out" / "recipe.json", image, tmp_path / "again")
    assert "probabilities.nii.gz" in again.outputs
    # Without iterations they are those of the model.
    plain = predict(
        image, model, tmp_path / "plain", samples=0, iterations=0, save_probabilities=True
    )
    assert "probabilities.nii.gz" in plain.outputs
    of_model = read_image(tmp_path / "plain" / "probabilities.nii.gz").data
    expected = distribution.mean().softmax(dim=0).numpy()
    np.testing.assert_allclose(of_model, expected, atol=1e-6)
    # Results of an earlier prediction leave no probabilities behind.
    predict(image, model, tmp_path / "plain", samples=0, overwrite=True)
    assert not (tmp_path / "plain" / "probabilities.nii.gz").exists()


def test_volumes_and_their_range_are_of_the_labels_written(
    image: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(image, "--model", model, "--out", out, "--samples", 3, "--temperature", 2) == 0
    with (out / "volumes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == CLASS_NAMES
    # Voxels of 1 x 2 x 3 mm.
    mean, *samples = (
        np.bincount(labels_in(out, name).ravel(), minlength=len(CLASSES)) * 0.006
        for name in ("mean.nii.gz", *(f"sample-{number:03d}.nii.gz" for number in (1, 2, 3)))
    )
    low, high = np.percentile(samples, [5, 95], axis=0)
    for label, row in enumerate(rows):
        assert row["samples"] == "3"
        written = [float(row[name]) for name in ("ml", "ml_p5", "ml_p95")]
        np.testing.assert_allclose(written, (mean[label], low[label], high[label]), atol=1e-4)
    assert (high - low).max() > 0.01
    predict(image, model, out, samples=0, overwrite=True)
    with (out / "volumes.csv").open(newline="", encoding="utf-8") as file:
        alone = list(csv.DictReader(file))
    assert [(row["ml_p5"], row["ml_p95"]) for row in alone] == [("", "")] * len(CLASSES)
    # The table is a result, as the others: it is not replaced unasked.
    (out / "recipe.json").unlink()
    for path in out.glob("*.nii.gz"):
        path.unlink()
    assert run(image, "--model", model, "--out", out) == 2
