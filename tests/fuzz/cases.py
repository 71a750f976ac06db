"""The valid inputs, and what becomes of them: a case is a number, and every number is a case."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle  # noqa: TID251 -- writes what nnU-Net writes
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import torch
from safetensors.numpy import save_file
from skimage.io import imsave

from napari_structseg.cli import main
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.entries import Event
from napari_structseg.correction.identity import identify
from napari_structseg.correction.journal import (
    JOURNAL_NAME,
    Journal,
    Work,
    action_record,
    note_record,
)
from napari_structseg.correction.stored import Note, SessionHeader
from napari_structseg.distributions import Strokes
from napari_structseg.io.nifti import read_image
from napari_structseg.io.weights import save_weights
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec, build_network

from . import mutators

SIZE = 12
_CONFIG = """
name = "tiny"
dimensions = 2
patch = [8, 8]
batch = 2
steps = 2
foreground = 0
validation_cases = 1
validate_every = 2
checkpoint_every = 1
seed = 3

[intensity]
kind = "window"
low = 0
high = 255

[backbone]
widths = [2, 4]
convolutions = [1, 1]
norm = "instance"

[head]
kind = "low_rank"
rank = 2

[loss]
samples = 2

[augmentation]
flip_axes = [0, 1]
quarter_turns = true
"""
_SETTINGS = """
name = "net"
program = "net.pt"
dimensions = 3
channels = ["CT"]
classes = ["background", { name = "square", color = "#ff0000" }]
spacing = [1.0, 1.0, 1.0]
patch = [8, 8, 8]
sizes = "multiple"
divisor = 2
overlap = 0.25
axes = "xyz"
orientation = "LPS"
head = "deterministic"

[intensity]
kind = "percentile"
low = 1
high = 99
span = [-1, 1]

[outputs]
values = "logits"
mean = 0
"""
_CLASSES = (
    ClassSpec(name="background", color="#000000"),
    ClassSpec(name="square", color="#ff0000"),
)
_OPTIONS = (
    "--samples", "--seed", "--temperature", "--class-scale", "--iterations", "--mrf-strength",
    "--damping", "--update", "--nudge", "--device", "--threads", "--slice", "--box", "--window",
    "--prior", "--probabilities", "--recipe", "--model", "--members", "--members-as", "--augment",
    "--passes",
)  # fmt: skip
_EVALUATION_OPTIONS = (
    "--samples", "--counts", "--seed", "--temperature", "--iterations", "--split", "--rater",
    "--patient-separator", "--limit", "--tolerance", "--batch", "--compare",
)  # fmt: skip
_VALUES = (
    "", "0", "1", "-1", "2", "1.5", "1e9", "100000", "1e308", "-1e308", "nan", "inf", "-inf",
    "1000000000000000000", "9" * 400, "9" * 5000, "square=2", "square=nan", "square=-1", "x=1",
    "=", "background,square=1", "background,square=1e30", "z:0", "z:1000000000000000000", "z:-1",
    "y:0:5", "x:0-99", "0:4,0:4", "0:0,0:0", "9:1,5:2", "-5:5,0:4", "0,255", "255,0", "nan,1",
    "coloured", "cuda", "cuda:99", "mps", "meta", "auto", "/", ".", "..",
    "scan.nii", "model.safetensors",
    "\u202e", "a" * 300, "a" * 5000, "~", "~nobody/x", "scan.nii/x",
)  # fmt: skip


# Where nothing can be written: what else --out names is where the user wants results.
_NOWHERE = ("", "scan.nii", "scan.nii/x", "a" * 300, "none/such", "\u202e/x")


@dataclass(frozen=True)
class Case:
    """Files of a folder, and the command that reads them.

    Attributes
    ----------
    kind
        What is attacked.
    files
        By name, what replaces or joins the valid inputs.
    arguments
        Of `structseg`, in the folder. What is written goes to the folder "out".
    base
        The folder of valid inputs that are copied.
    """

    kind: str
    files: dict[str, bytes]
    arguments: list[str]
    base: str


def write_inputs(folder: Path) -> None:
    """Write the valid inputs: images, models, a data set, and what train and evaluate leave."""
    images, stack = folder / "images", folder / "stack"
    images.mkdir()
    stack.mkdir()
    rng = np.random.default_rng(0)
    voxels = rng.integers(1, 255, (6, 7, 8)).astype(np.int16)
    nib.Nifti1Image(voxels, np.diag([2, 1, 1, 1])).to_filename(images / "scan.nii")
    packed = gzip.compress((images / "scan.nii").read_bytes(), mtime=0)
    (images / "scan.nii.gz").write_bytes(packed)
    picture = rng.integers(0, 255, (SIZE, SIZE)).astype(np.uint8)
    imsave(images / "picture.png", picture, check_contrast=False)
    _write_model(images / "model.safetensors", 3)
    _write_model(images / "flat.safetensors", 2)
    _run(images, "predict", "scan.nii", "--model", "model.safetensors", "--samples", "1")
    (images / "recipe.json").write_bytes((images / "out" / "recipe.json").read_bytes())
    shutil.rmtree(images / "out")
    _write_session(images)
    _write_folds(images)
    _write_programs(images, voxels.shape)

    pixels = rng.integers(0, 255, (5, 1, SIZE, SIZE)).astype(np.uint8)
    np.save(stack / "images.npy", pixels)
    np.save(stack / "labels.npy", (pixels > 128).astype(np.uint8))
    text = io.StringIO()
    splits = ("train", "train", "train", "val", "test")
    csv.writer(text).writerows(
        [("case", "patient", "split"), *((f"c{n}", f"p{n}", one) for n, one in enumerate(splits))]
    )
    (stack / "cases.csv").write_text(text.getvalue())
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "square": 1},
        "raters": ["ann"],
        "spacing": [1.0, 1.0],
    }
    (stack / "dataset.json").write_text(json.dumps(description))
    (stack / "config.toml").write_text(_CONFIG)
    _write_model(stack / "flat.safetensors", 2)
    _run(stack, "train", ".", "--config", "config.toml", "--device", "cpu")
    (stack / "checkpoint").write_bytes((stack / "out" / "checkpoint.safetensors").read_bytes())
    shutil.rmtree(stack / "out")
    (stack / "out").mkdir()
    _run(stack, *_EVALUATE, json_="out/e.json")
    (stack / "rows").write_bytes((stack / "out" / "e.rows.jsonl").read_bytes())
    shutil.rmtree(stack / "out")


_EVALUATE = ("evaluate", ".", "--model", "flat.safetensors", "--samples", "2", "--device", "cpu")
_RECIPE = ["predict", "scan.nii", "--model", "model.safetensors"]
_RECIPE += ["--recipe", "recipe.json", "--out", "out"]
_TRAIN = ["train", ".", "--config", "config.toml", "--out", "out", "--device", "cpu"]


def n_kinds() -> int:
    """How many kinds of cases there are; they take turns."""
    return len(_KINDS)


def make_case(number: int, inputs: Path) -> Case:
    """The case of a number: always the same for the same inputs."""
    # Of text: numbers that follow each other give generators that are alike.
    rng = Random(f"case {number}")
    kind = sorted(_KINDS)[number % len(_KINDS)]
    return _KINDS[kind](kind, rng, inputs)


def _predict(name: str, model: str, mutate: mutators.Mutator) -> Maker:
    def make(kind: str, rng: Random, inputs: Path) -> Case:
        found = mutate(rng, (inputs / "images" / name).read_bytes())
        arguments = ["predict", name, "--model", model, "--out", "out", "--samples", "1"]
        return Case(kind, {name: found}, [*arguments, "--device", "cpu"], "images")

    return make


def _with_model(name: str, model: str, mutate: mutators.Mutator) -> Maker:
    """A prediction of the valid image with something damaged in a model's place."""

    def make(kind: str, rng: Random, inputs: Path) -> Case:
        found = mutate(rng, (inputs / "images" / name).read_bytes())
        arguments = ["predict", "scan.nii", "--model", model, "--out", "out", "--samples", "1"]
        return Case(kind, {name: found}, [*arguments, "--device", "cpu"], "images")

    return make


def _file(base: str, name: str, mutate: mutators.Mutator, arguments: list[str]) -> Maker:
    def make(kind: str, rng: Random, inputs: Path) -> Case:
        return Case(kind, {name: mutate(rng, (inputs / base / name).read_bytes())}, arguments, base)

    return make


def _checkpoint(kind: str, rng: Random, inputs: Path) -> Case:
    found = mutators.safetensors(rng, (inputs / "stack" / "checkpoint").read_bytes())
    return Case(kind, {"out/checkpoint.safetensors": found}, [*_TRAIN, "--resume"], "stack")


def _rows(kind: str, rng: Random, inputs: Path) -> Case:
    found = mutators.json_lines(rng, (inputs / "stack" / "rows").read_bytes())
    arguments = [*_EVALUATE, "--json", "out/e.json", "--resume"]
    return Case(kind, {"out/e.rows.jsonl": found}, arguments, "stack")


def _session(kind: str, rng: Random, inputs: Path) -> Case:
    whole = (inputs / "images" / "session" / JOURNAL_NAME).read_bytes()
    found = mutators.session(rng, whole)
    arguments = ["sessions", "session"]
    if rng.random() < 0.8:
        arguments += ["--image", "scan.nii", "--out", "out/result.nii.gz"]
    return Case(kind, {f"session/{JOURNAL_NAME}": found, "out/.keep": b""}, arguments, "images")


def _write_session(folder: Path) -> None:
    """A session with every kind of action."""
    image = read_image(folder / "scan.nii")
    correction = Correction(image.spatial_shape, len(_CLASSES))
    work = Work(
        SessionHeader(program="1", created="2000-01-01", image=identify(image), classes=_CLASSES),
        correction,
    )
    rng = np.random.default_rng(1)
    correction.accept(rng.integers(0, 2, image.spatial_shape), name="accept")
    work.number = 1
    (folder / "session").mkdir()
    journal = Journal(folder / "session")
    journal.write(work)
    events: list[Event] = []
    correction.recorded.connect(events.append)
    strokes = Strokes.from_array(rng.integers(0, 3, image.spatial_shape), len(_CLASSES))
    correction.set_strokes(strokes, name="condition")
    correction.lock_class(1, name="lock")
    correction.lock_region(rng.random(image.spatial_shape) < 0.5, name="lock")
    correction.paint(np.arange(40), 1)
    correction.undo()
    journal.append([action_record(event, 2 + at) for at, event in enumerate(events)])
    journal.append([note_record(Note(state="{}", recipe='{"model": "tiny"}'))])
    journal.close()


def _write_folds(folder: Path) -> None:
    """Two folds of nnU-Net: one of version 2, one of version 1, which is cropped."""
    rng = np.random.default_rng(3)
    maps = rng.dirichlet((1, 1), (8, 7, 6)).astype(np.float32).transpose(3, 0, 1, 2)
    # scan.nii lies at the origin with voxels of 2, 1 and 1 mm, which ITK sees from the other side.
    place = {"spacing": (2.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0)}
    place["direction"] = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)
    second: dict[str, object] = {f"itk_{name}": value for name, value in place.items()}
    second |= {
        "original_size_of_raw_data": np.array([8, 7, 6]),
        "original_spacing": np.array([1.0, 1.0, 2.0]),
        "crop_bbox": [[1, 7], [2, 6], [0, 6]],
        "size_after_cropping": (6, 4, 6),
    }
    properties = ({"sitk_stuff": place, "class_locations": {1: np.zeros((4, 3), int)}}, second)
    arrays = ({"probabilities": maps}, {"softmax": maps[:, 1:7, 2:6].astype(np.float16)})
    labels = {"labels": {"background": 0, "square": 1}}
    for number, (one, array) in enumerate(zip(properties, arrays, strict=True)):
        fold = folder / "folds" / f"fold_{number}"
        fold.mkdir(parents=True)
        np.savez_compressed(fold / "scan.npz", **array)
        (fold / "scan.pkl").write_bytes(pickle.dumps(one))
        (fold / "dataset.json").write_text(json.dumps(labels))


def _fold(name: str, mutate: mutators.Mutator) -> Maker:
    def make(kind: str, rng: Random, inputs: Path) -> Case:
        path = f"folds/fold_{rng.randrange(2)}/{name}"
        found = mutate(rng, (inputs / "images" / path).read_bytes())
        arguments = ["predict", "scan.nii", "--folds", "folds", "--out", "out", "--samples", "1"]
        arguments += ["--folds-as", rng.choice(("members", "normal"))]
        return Case(kind, {path: found}, arguments, "images")

    return make


def _repacked(rng: Random, data: bytes) -> bytes:
    """An .npz whose array has another header, or other bytes."""
    if rng.random() < 0.3:
        return mutators.bytes_(rng, data)
    made = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", method) as new:
        for info in old.infolist():
            new.writestr(info.filename, mutators.npy(rng, old.read(info)))
    return made.getvalue()


def _stack(kind: str, rng: Random, inputs: Path) -> Case:
    name = rng.choice(("images.npy", "labels.npy", "cases.csv"))
    data = (inputs / "stack" / name).read_bytes()
    found = mutators.bytes_(rng, data) if name == "cases.csv" else mutators.npy(rng, data)
    files = {name: found, "out/.keep": b""}
    return Case(kind, files, [*_EVALUATE, "--json", "out/e.json"], "stack")


def _options(kind: str, rng: Random, inputs: Path) -> Case:
    arguments = ["predict", "scan.nii", "--model", "model.safetensors", "--out", "out"]
    for _ in range(rng.choice((1, 1, 2, 4))):
        # So many samples are a wish that is granted, in an hour.
        value = rng.choice([one for one in _VALUES if one != "100000"])
        arguments += [f"{rng.choice(_OPTIONS)}={value}"] if rng.random() < 0.9 else [value]
    if rng.random() < 0.05:
        arguments += ["--threads=100000"]
    if rng.random() < 0.1:
        arguments += [f"--out={rng.choice(_NOWHERE)}"]
    return Case(kind, {}, arguments, "images")


def _evaluation_options(kind: str, rng: Random, inputs: Path) -> Case:
    arguments = [*_EVALUATE, "--json", "out/e.json"]
    arguments += [
        f"{rng.choice(_EVALUATION_OPTIONS)}={rng.choice(_VALUES)}"
        for _ in range(rng.choice((1, 2)))
    ]
    return Case(kind, {"out/.keep": b""}, arguments, "stack")


class _Program(torch.nn.Module):
    """Logits of two classes, with a branch, so that its archive holds code of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last(x)
        return y + x if bool(x.sum() > 0) else y


def _write_programs(folder: Path, shape: tuple[int, ...]) -> None:
    """A program with its settings, and the tensors of a distribution."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.manual_seed(0)
        torch.jit.script(_Program().eval()).save(str(folder / "net.pt"))
    (folder / "net.toml").write_text(_SETTINGS)
    mean = np.random.default_rng(2).normal(size=(2, *shape)).astype(np.float32)
    given = {"mean_xyz": mean, "factor_xyz": mean[None], "diagonal_xyz": np.abs(mean)}
    np.savez(folder / "given.npz", **given)
    save_file(given, folder / "given.safetensors", {"classes": '["background", "square"]'})


def _write_model(path: Path, dimensions: int) -> None:
    spec = ModelSpec(
        name=path.stem,
        dimensions=dimensions,
        channels=("CT",),
        patch=(16,) * dimensions,
        backbone=BackboneSpec(widths=(2, 4), convolutions=(1, 1)),
        head=HeadSpec(rank=2),
        classes=_CLASSES,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(spec)
    save_weights(path, network, spec)


def _run(folder: Path, *arguments: str, json_: str | None = None) -> None:
    paths = {name: str(folder / name) for name in (".", "scan.nii", "model.safetensors",
             "flat.safetensors", "config.toml")}  # fmt: skip
    out = ["--out", str(folder / "out")] if json_ is None else ["--json", str(folder / json_)]
    code = main([*(paths.get(one, one) for one in arguments), *out])
    if code != 0:
        raise RuntimeError(f"the valid inputs are refused: structseg {' '.join(arguments)}")


Maker = Callable[[str, Random, Path], Case]
_KINDS: dict[str, Maker] = {
    "checkpoint": _checkpoint,
    "config": _file("stack", "config.toml", mutators.toml_bytes, _TRAIN),
    "dataset.json": _file("stack", "dataset.json", mutators.json_bytes, _TRAIN),
    "evaluation options": _evaluation_options,
    "nnunet arrays": _fold("scan.npz", _repacked),
    "nnunet labels": _fold("dataset.json", mutators.json_bytes),
    "nnunet properties": _fold("scan.pkl", mutators.bytes_),
    "nifti": _predict("scan.nii", "model.safetensors", mutators.nifti),
    "nifti.gz": _predict("scan.nii.gz", "model.safetensors", mutators.nifti_gz),
    "options": _options,
    "png": _predict("picture.png", "flat.safetensors", mutators.png),
    "program": _with_model("net.pt", "net.toml", mutators.archive),
    "program settings": _with_model("net.toml", "net.toml", mutators.toml_bytes),
    "recipe": _file("images", "recipe.json", mutators.json_bytes, _RECIPE),
    "rows": _rows,
    "session": _session,
    "stack": _stack,
    "tensors npz": _with_model("given.npz", "given.npz", mutators.npz),
    "tensors safetensors": _with_model(
        "given.safetensors", "given.safetensors", mutators.safetensors
    ),
    "weights": _file(
        "images", "model.safetensors", mutators.safetensors, ["info", "model.safetensors"]
    ),
}
