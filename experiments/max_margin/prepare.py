"""The data sets of the max-margin experiment as stacks that `structseg train` reads."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

# The split of the horses is drawn once, from this seed: 150, 50 and the rest, as in the paper.
_SPLIT_SEED, _N_TRAINING, _N_VALIDATION = 2017, 150, 50
# A nodule is what so many of four raters marked.
_MAJORITY = 2
SPLITS = ("train", "val", "test")

Rows = list[tuple[str, str, str]]
Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Rows]


def prepare(name: str, data: Path, target: Path, settings: dict[str, object]) -> Path:
    """Make a data set once, and give its folder.

    Parameters
    ----------
    name
        ``horses`` or ``lidc``.
    data
        Folder that holds it.
    target
        Folder to make.
    settings
        ``size``, and ``training``, ``validation``, ``test``: cases to keep of a split, if fewer
        than there are.
    """
    if (target / "dataset.json").is_file():
        return target
    read = {"horses": _horses, "lidc": _nodules}[name]
    images, labels, rows = read(data / name, tuple(settings["size"]))
    kept = _kept([row[-1] for row in rows], settings)
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "images.npy", images[kept][:, None])
    np.save(target / "labels.npy", labels[kept][:, None])
    with (target / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "patient", "split"))
        writer.writerows(rows[n] for n in kept)
    description = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, {"horses": "horse", "lidc": "nodule"}[name]: 1},
    }
    # Last: a conversion that was cut off is made again.
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return target


def _kept(splits: Sequence[str], settings: dict[str, object]) -> list[int]:
    limits = dict(zip(SPLITS, ("training", "validation", "test"), strict=True))
    kept: list[int] = []
    for split in SPLITS:
        of_split = [n for n, one in enumerate(splits) if one == split]
        limit = int(settings.get(limits[split], len(of_split)))
        # Spread over all: neighbours in the table are often of one patient.
        places = np.linspace(0, len(of_split) - 1, min(limit, len(of_split))).round().astype(int)
        kept += [of_split[n] for n in places]
    return kept


def _horses(folder: Path, size: tuple[int, int]) -> Arrays:
    """All images brought to one size; what was their proportion is not kept."""
    files = sorted((folder / "gray").glob("*.jpg"))
    images, labels = [], []
    for path in files:
        with Pillow.open(path) as grey, Pillow.open(folder / "figure_ground" / path.name) as mask:
            images.append(np.asarray(grey.convert("L").resize(size[::-1], Pillow.Resampling.BOX)))
            share = np.asarray(mask.convert("L").resize(size[::-1], Pillow.Resampling.BOX))
        labels.append((share > 127).astype(np.uint8))
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(files))
    split = np.full(len(files), SPLITS[2], dtype=object)
    split[order[:_N_TRAINING]] = SPLITS[0]
    split[order[_N_TRAINING : _N_TRAINING + _N_VALIDATION]] = SPLITS[1]
    rows = [(path.stem, path.stem, str(one)) for path, one in zip(files, split, strict=True)]
    return np.stack(images), np.stack(labels), rows


def _nodules(folder: Path, size: tuple[int, int]) -> Arrays:
    """Slices in which a majority marked a nodule, cropped around it; splits are by patient."""
    first = folder / "first"
    with (first / "index.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    with np.load(first / "masks_packbits.npz") as file:
        masks = np.unpackbits(file["masks"], axis=-1)
    labels = (masks.sum(axis=1) >= _MAJORITY).astype(np.uint8)
    starts = [(have - wanted) // 2 for have, wanted in zip(labels.shape[1:], size, strict=True)]
    middle = tuple(slice(a, a + n) for a, n in zip(starts, size, strict=True))
    labels = labels[(slice(None), *middle)]
    marked = np.flatnonzero(labels.any(axis=(1, 2)))
    images = []
    with zipfile.ZipFile(first / "images.zip") as archive:
        for n in marked:
            with Pillow.open(io.BytesIO(archive.read(table[n]["key"]))) as picture:
                images.append(np.asarray(picture.convert("L"))[middle])
    rows = [(table[n]["key"], table[n]["patient"], table[n]["split"]) for n in marked]
    return np.stack(images), labels[marked], rows
