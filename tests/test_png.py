"""PNG files: the kinds of pixels that programs write, and what a data set of colour pictures is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.errors import ConfigError, StructSegError
from napari_structseg.io.png import read_png

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 8, 4)).astype(np.uint8)


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("RGBA", 4), ("P", 3), ("LA", 4)]
)
def test_every_kind_of_pixel_has_channels_that_say_what_they_are(
    mode: str, channels: int, tmp_path: Path
) -> None:
    picture = (
        Pillow.fromarray(PIXELS, "RGBA") if mode == "RGBA" else Pillow.fromarray(PIXELS[..., :3])
    )
    picture.convert(mode).save(tmp_path / "a.png")
    image = read_png(tmp_path / "a.png")
    assert image.data.shape == (channels, 6, 8)
    assert not image.has_spacing
    if channels == 1:
        assert image.channels == ("image",)
    else:
        assert image.channels == ("red", "green", "blue", "alpha")[:channels]


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_png(tmp_path / "a.png").data[0], pixels)


def data_set(folder: Path, names: list[str], channel_names: list[str]) -> Path:
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    for name in names:
        Pillow.fromarray(PIXELS[..., :3]).save(folder / "imagesTr" / f"{name}_0000.png")
        labels = (PIXELS[..., 0] > 128).astype(np.uint8)
        Pillow.fromarray(labels).save(folder / "labelsTr" / f"{name}.png")
    description = {
        "channel_names": dict(enumerate(channel_names)),
        "labels": {"background": 0, "one": 1},
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_a_colour_picture_is_three_channels_of_one_file(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set", ["a"], ["R", "G", "B"])
    (case,) = Cohort(folder, Selection())
    assert case.image.n_channels == 3
    assert np.array_equal(case.image.data[2], PIXELS[..., 2])


def test_a_colour_picture_where_one_channel_is_named_is_refused(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set", ["a"], ["grey"])
    with pytest.raises(StructSegError, match="3"):
        list(Cohort(folder, Selection()))


def test_patients_are_told_apart_by_every_name_or_by_none(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set", ["p1-a", "p1-b", "p2-a"], ["R", "G", "B"])
    cohort = Cohort(folder, Selection(patient_separator="-"))
    assert [case.patient for case in cohort.cases] == ["p1", "p1", "p2"]
    with pytest.raises(ConfigError, match=r"'_' does not occur in the names of 3 of 3 cases: p1-a"):
        Cohort(folder, Selection(patient_separator="_"))
    with pytest.raises(ConfigError, match="of 1 of 3 cases: p2-a"):
        Cohort(folder, Selection(patient_separator="1"))
