"""What is tuned on: cases that somebody has corrected, and cases that nobody has."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.controls import MEAN, Controls
from napari_structseg.data.cases import ReadCase
from napari_structseg.data.sources import open_source
from napari_structseg.distributions import Strokes
from napari_structseg.evaluation.dice import dice_per_class
from napari_structseg.evaluation.energy import generalised_energy_distance
from napari_structseg.image import Image
from napari_structseg.io.model_files import find_model
from napari_structseg.io.nifti import read_image, write_volume
from napari_structseg.io.weights import load_weights, read_spec
from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.training.config import TrainConfig
from napari_structseg.training.sources import build_run
from napari_structseg.training.train import train
from napari_structseg.training.validation import Validator, open_labeller

HERE = Path(__file__).resolve().parent
# The simulated user of the other experiment, and the slices of LIDC.
sys.path += [str(HERE.parent / "correction"), str(HERE.parent / "lidc")]

from prepare import prepare as prepare_lidc  # noqa: E402
from user import next_dab  # noqa: E402

Labels = npt.NDArray[np.uint8]
Measured = dict[str, list[float]]

STROKES_PER_CASE = 12
# Of IBSR: so many slices of 1.5 mm in the middle of the brain, and voxels left around it.
_SLAB, _MARGIN = 24, 4
_POOL_OF_IBSR = 4
_TESTS_OF_OTHER_SITE = 2
_MAPS = 4
# Of the hippocampus: a tenth of the data to train on, then cases to correct, the last ones to test.
_BASE_OF_HIPPOCAMPUS, _POOL_OF_HIPPOCAMPUS, _TESTS_OF_HIPPOCAMPUS = 20, 24, 40
_POOL_OF_LIDC, _TESTS_OF_LIDC, _SAMPLES = 64, 60, 8


@dataclass(frozen=True)
class Domain:
    """A model, what it is tuned on, and what is measured.

    Attributes
    ----------
    model
        File of the model that everything starts from.
    pool
        Cases that are corrected, each with what the user would have it be.
    tests
        Cases that nobody corrects; dice is of them.
    counts
        Numbers of corrected cases.
    looks
        Steps after which it is measured; the last one is the number of all steps.
    fields
        Of the settings of fine-tuning.
    scored
        Classes that Dice is taken of.
    replay
        The data that the model was trained on; None: it is not replayed.
    only_reviewed
        Whether voxels that the rater left out (label 0) count neither in loss nor in Dice.
    style
        Of one rater, as labels of each test case: Dice is taken of it, and the energy distance of
        all raters besides. None: cases have one rater.
    radius
        Of the brush, in voxels.
    original
        Scores on data of the kind that the model was trained on; None: that is the same kind.
    """

    name: str
    model: Path
    pool: Sequence[ReadCase]
    tests: Sequence[ReadCase]
    counts: tuple[int, ...]
    looks: tuple[int, ...]
    fields: dict[str, Any]
    scored: tuple[int, ...]
    replay: Path | None = None
    only_reviewed: bool = False
    style: Callable[[ReadCase], Labels] | None = None
    radius: float = 2.0
    original: Validator | None = None

    def wanted(self, case: ReadCase) -> Labels:
        """What the user would have a case be."""
        return case.raters[0] if self.style is None else self.style(case)

    def measure(self, network: SegmentationNetwork, spec: ModelSpec) -> Measured:
        """Dice of each test case and of the original kind; with a style the energy distances."""
        found: Measured = {"dice": []}
        if self.original is not None:
            found["original"] = [float(np.mean(list(self.original(network, 0).dice.values())))]
        for seed, case in enumerate(self.tests):
            labels = open_labeller(network, spec, case.image)
            shown, truth = labels(Controls(seed=seed)), self.wanted(case)
            counted = truth > 0 if self.only_reviewed else np.ones(truth.shape, bool)
            per_class = dice_per_class(shown[counted], truth[counted], spec.n_classes)
            found["dice"].append(float(np.nanmean(per_class[list(self.scored)])))
            if self.style is None:
                continue
            numbers = range(MEAN + 1, MEAN + 1 + _SAMPLES)
            samples = np.stack([labels(Controls(seed=seed, sample=one)) for one in numbers])
            for key, raters in (("ged", case.raters), ("ged_style", truth[None])):
                distance = generalised_energy_distance(samples, raters, n_classes=spec.n_classes)
                found.setdefault(key, []).append(distance)
        return {key: [round(one, 5) for one in values] for key, values in found.items()}

    def files(self, case: ReadCase, learn_from: str, folder: Path) -> dict[str, Any]:
        """A corrected case as files: all of it, or strokes that answer the model's mistakes."""
        folder.mkdir(parents=True, exist_ok=True)
        truth, geometry = self.wanted(case), case.image.geometry
        # Names of slices of LIDC are paths.
        stem = case.name.removesuffix(".png").replace("/", "_")
        image, labels = folder / f"{stem}.nii", folder / f"{stem}-labels.nii"
        marks = folder / f"{stem}-{learn_from}.nii"
        files = {"image": [image], "labels": labels}
        if learn_from == "strokes" or self.only_reviewed:
            files["reviewed"] = marks
            if not marks.exists():
                said = self._strokes(case) if learn_from == "strokes" else truth > 0
                write_volume(marks, said.astype(np.uint8), geometry, dtype=np.uint8)
        if not image.exists():
            write_volume(labels, truth, geometry, dtype=np.uint8)
            write_volume(image, case.image.data[0], geometry, dtype=np.float32)
        return files

    def _strokes(self, case: ReadCase) -> npt.NDArray[np.integer]:
        """Dabs into the largest mistakes of the model as it was, k + 1 for class k."""
        network, spec = load_weights(self.model)
        truth = self.wanted(case)
        shown = open_labeller(network, spec, case.image)(Controls())
        said = Strokes.none(truth.shape)
        reviewed = truth > 0 if self.only_reviewed else None
        for _ in range(STROKES_PER_CASE):
            dab = next_dab(shown, truth, said, radius=self.radius, reviewed=reviewed)
            if dab is None:
                break
            said = said.merged(dab)
            shown.reshape(-1)[dab.voxels] = dab.labels
        return said.to_array()


def ibsr(data: Path, work: Path) -> Domain:
    """Slabs of brains, and `brain-tissue`, which was trained on no real image.

    Corrected are scans of the site with slices of 0.94 mm; tested are others of that site, then
    scans of the other one. The raters drew no CSF between the sulci: only what they called
    something counts, as a user would say who reviews that alone.
    """
    sites = [sorted((data / "ibsr18" / name).glob("*_seg.nii.gz")) for name in ("0.94mm", "1.0mm")]
    ours = [_slab(path) for path in sites[0]]
    other = [_slab(path) for path in sites[1][:_TESTS_OF_OTHER_SITE]]
    maps = work / "label-maps"
    maps.mkdir(parents=True, exist_ok=True)
    for path in sorted((data / "synthseg_label_maps").glob("*.nii.gz"))[-_MAPS:]:
        if not (maps / path.name).exists():
            os.symlink(path, maps / path.name)
    model, patch = find_model("brain-tissue"), (64, 48, 64)
    recipe = read_spec(model).training.recipe | {"patch": patch, "validation_cases": 1}
    return Domain(
        name="ibsr",
        model=model,
        pool=ours[:_POOL_OF_IBSR],
        tests=[*ours[_POOL_OF_IBSR:], *other],
        counts=(1, 2, 4),
        looks=(50, 150),
        fields={"patch": patch, "batch": 1, "samples": 4},
        scored=(2, 3),
        replay=maps,
        only_reviewed=True,
        original=build_run(TrainConfig.model_validate(recipe), maps)[2],
    )


def hippocampus(data: Path, work: Path) -> Domain:
    """Task04 of the Medical Segmentation Decathlon, and a model of a tenth of the data."""
    folder = data / "hippocampus"
    names = sorted(path.name for path in (folder / "images").glob("*.nii.gz"))
    base = work / "hippocampus-tenth"
    if not (base / "dataset.json").exists():
        for kind in ("imagesTr", "labelsTr"):
            (base / kind).mkdir(parents=True, exist_ok=True)
        for name in names[:_BASE_OF_HIPPOCAMPUS]:
            stem = name.removesuffix(".nii.gz")
            shutil.copyfile(folder / "images" / name, base / "imagesTr" / f"{stem}_0000.nii.gz")
            shutil.copyfile(folder / "labels" / name, base / "labelsTr" / name)
        description = {
            "channel_names": {"0": "T1"},
            "labels": {"background": 0, "anterior": 1, "posterior": 2},
            "numTraining": _BASE_OF_HIPPOCAMPUS,
            "file_ending": ".nii.gz",
        }
        (base / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    out = work / "hippocampus-model"
    model = out / "done.safetensors"
    if not model.exists():
        resume = (out / "checkpoint.safetensors").exists()
        trained = train(base, _hippocampus_config(), out, resume=resume, workers=1, device="cpu")
        shutil.copyfile(trained, model)

    def read(name: str) -> ReadCase:
        image = read_image(folder / "images" / name)
        return _case(name, image, read_image(folder / "labels" / name).data[0])

    first, last = _BASE_OF_HIPPOCAMPUS, _BASE_OF_HIPPOCAMPUS + _POOL_OF_HIPPOCAMPUS
    return Domain(
        name="hippocampus",
        model=model,
        pool=[read(name) for name in names[first:last]],
        tests=[read(name) for name in names[-_TESTS_OF_HIPPOCAMPUS:]],
        counts=(1, 2, 4, 16),
        looks=(50, 200),
        fields={"batch": 2},
        scored=(1, 2),
        replay=base,
    )


def _hippocampus_config() -> TrainConfig:
    """That of experiments/covariance/small.toml ("bound + mean")."""
    return TrainConfig.model_validate(
        {
            "name": "hippocampus-tenth",
            "dimensions": 3,
            "patch": (24, 28, 24),
            "spacing": (1.5, 1.5, 1.5),
            "intensity": {"kind": "zscore"},
            "augmentation": {"rotation": 15, "scaling": 0.1, "noise": 0.05},
            "backbone": {"widths": (8, 16, 32), "convolutions": (2, 2, 2)},
            "head": {"kind": "low_rank", "rank": 10, "bound": 1.7},
            "loss": {"samples": 20, "mean_only_steps": 250, "mean_weight": 0.2},
            "batch": 2,
            "steps": 1000,
            "validation_cases": 2,
            "validate_every": 1000,
            "checkpoint_every": 50,
        }
    )


def lidc(data: Path, work: Path) -> Domain:
    """Nodules that four radiologists drew, and `lung-nodule`; the style is the largest outline.

    Who drew what is not known in LIDC, so that a style is a rule: of each slice the largest mask.
    """
    stack = prepare_lidc(data / "lidc", work / "lidc", 128)
    source = open_source(stack)
    chosen: dict[str, list[ReadCase]] = {"val": [], "test": []}
    most = {"val": _POOL_OF_LIDC, "test": _TESTS_OF_LIDC}
    for entry in source.entries:
        if entry.split not in most or len(chosen[entry.split]) == most[entry.split]:
            continue
        case = source.read(entry)
        sizes = case.raters.sum(axis=(1, 2))
        # Where all agree there is no style.
        if sizes.min() < sizes.max():
            chosen[entry.split].append(case)
    return Domain(
        name="lidc",
        model=find_model("lung-nodule"),
        pool=chosen["val"],
        tests=chosen["test"],
        counts=(1, 4, 16, 64),
        looks=(50, 200),
        fields={"batch": 4},
        scored=(1,),
        replay=stack,
        style=lambda case: case.raters[int(case.raters.sum(axis=(1, 2)).argmax())],
        radius=1.0,
    )


DOMAINS: dict[str, Callable[[Path, Path], Domain]] = {
    "hippocampus": hippocampus,
    "lidc": lidc,
    "ibsr": ibsr,
}


def _slab(path: Path) -> ReadCase:
    """The middle of a brain, where most of it is."""
    name = path.name.removesuffix("_seg.nii.gz")
    truth = read_image(path).data[0]
    image = read_image(path.with_name(f"{name}.nii.gz"))
    (box,) = ndimage.find_objects((truth > 0).astype(np.uint8))
    region = [
        slice(max(0, one.start - _MARGIN), min(size, one.stop + _MARGIN))
        for one, size in zip(box, truth.shape, strict=True)
    ]
    axis = int(np.argmax(image.spacing))
    middle = (box[axis].start + box[axis].stop) // 2
    region[axis] = slice(middle - _SLAB // 2, middle + _SLAB // 2)
    part = tuple(region)
    image = replace(
        image,
        data=np.ascontiguousarray(image.data[(slice(None), *part)]),
        geometry=image.geometry.cropped(part),
    )
    return _case(name, image, truth[part])


def _case(name: str, image: Image, truth: npt.NDArray[Any]) -> ReadCase:
    name = name.removesuffix(".nii.gz")
    return ReadCase(name, name, image, truth.astype(np.uint8)[None], name, image.has_spacing)
