"""NRRD, MetaImage and TIFF: their voxels where they lie, and headers that are not believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_structseg import read_image
from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.io.channels import read_channels, refer_to_images
from napari_structseg.io.references import refer_to_parts

sitk = pytest.importorskip("SimpleITK")

TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


def save(path: Path, voxels: np.ndarray, *, is_vector: bool = False) -> Path:
    image = sitk.GetImageFromArray(voxels, isVector=is_vector)
    image.SetSpacing((0.6, 0.8, 2.0)[: image.GetDimension()])
    image.SetOrigin((-30, 40, -100)[: image.GetDimension()])
    if image.GetDimension() == 3:
        image.SetDirection(TURN.ravel())
    sitk.WriteImage(image, str(path), useCompression=path.name.startswith("packed"))
    return path


def volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, shape or (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize(
    "name", ["a.nrrd", "packed.nrrd", "a.nhdr", "a.mha", "packed.mha", "a.MHD"]
)
def test_voxels_lie_where_simpleitk_says(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name.lower(), volume())
    path = path.rename(path.with_name(name))
    image = read_image(path)
    found = sitk.ReadImage(str(path)) if name == name.lower() else None
    assert np.array_equal(image.geometry.to_file(image.data[0]).T, volume())
    assert image.name == Path(name).stem
    assert sorted(image.spacing) == pytest.approx([0.6, 0.8, 2])
    for corner in ((0, 0, 0), (5, 0, 0), (0, 4, 0), (5, 4, 3)):
        there = np.diag([-1, -1, 1]) @ (image.geometry.file_affine @ (*corner, 1))[:3]
        by_hand = np.array([-30, 40, -100]) + TURN @ (np.array([0.6, 0.8, 2]) * corner)
        assert there == pytest.approx(by_hand)
        if found is not None:
            assert there == pytest.approx(found.TransformIndexToPhysicalPoint(corner))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_components_are_channels(name: str, tmp_path: Path) -> None:
    image = read_image(save(tmp_path / name, volume(4, 5, 6, 2), is_vector=True))
    assert image.n_channels == 2
    stored = image.geometry.to_file(image.data)
    assert np.array_equal(stored.transpose(2, 1, 0, 3), volume(4, 5, 6, 2))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_pictures_are_two_dimensional_and_upright(name: str, tmp_path: Path) -> None:
    image = read_image(save(tmp_path / name, volume(5, 6)))
    assert np.array_equal(image.data[0], volume(5, 6))
    assert image.spacing == pytest.approx((0.8, 0.6))


def test_header_and_voxels_are_one_reference(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mhd", volume())
    source = read_channels([path]).source
    assert source is not None
    assert [file.name for file in source.files] == ["a.mhd", "a.raw"]
    assert refer_to_images([path]) == refer_to_parts(source)
    (tmp_path / "a.raw").write_bytes(volume()[::-1].tobytes())
    assert refer_to_images([path]) != ()
    changed = read_channels([path]).source
    assert changed is not None
    assert refer_to_images([path]) == refer_to_parts(changed)


def test_voxels_without_a_size_have_none(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(range(24)))
    assert not read_image(tmp_path / "a.nrrd").has_spacing


@pytest.mark.parametrize(
    "elsewhere", ["../secret.raw", "/etc/passwd", "C:\\x.raw", "a/../../x.raw"]
)
@pytest.mark.parametrize("ending", ["nhdr", "mhd"])
def test_voxels_in_another_folder_are_refused(elsewhere: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(10_000))
    folder = tmp_path / "in"
    folder.mkdir()
    path = save(folder / f"a.{ending}", volume())
    text = path.read_text().replace("a.raw", elsewhere)
    path.write_text(text)
    with pytest.raises(InputError, match="outside of its own folder"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("a.nrrd", "sizes: 6 5 4", "sizes: 6000 5000 4000", "cut short"),
        ("a.nrrd", "sizes: 6 5 4", "sizes: 6 5 0", "sizes"),
        ("a.nrrd", "type: short", "type: block", "of the type"),
        ("a.nrrd", "dimension: 3", "dimension: 2", "do not agree"),
        ("a.nrrd", "encoding: raw", "encoding: bzip2", "raw or gzip"),
        ("a.nrrd", "NRRD", "XRRD", "not an NRRD file"),
        ("a.mha", "DimSize = 6 5 4", "DimSize = 6000 5000 4000", "cut short"),
        ("a.mha", "MET_SHORT", "MET_OTHER", "of the type"),
        ("a.mha", "NDims = 3", "NDims = 2", "do not agree"),
        ("a.mhd", "a.raw", "LIST", "several files"),
        ("a.mhd", "a.raw", "a%03d.raw 1 4 1", "several files"),
        ("a.mhd", "a.raw", "b.raw", "no such file"),
    ],
)
def test_headers_are_not_believed(
    name: str, old: str, new: str, words: str, tmp_path: Path
) -> None:
    path = save(tmp_path / name, volume())
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(InputError, match=words):
        read_image(path)


def test_more_than_the_memory_is_refused_before_any_is_taken(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: double\ndimension: 3\nsizes: 5000 5000 5000\nencoding: gzip\n\n"
    with (tmp_path / "a.nrrd").open("wb") as file:
        file.write(header.encode())
        # A hole: it takes no place on the disk.
        file.truncate(1 << 30)
    with pytest.raises(MemoryLimitError, match="GB of memory"):
        read_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiff_of_one_page_is_a_picture(kind: type, tmp_path: Path) -> None:
    pixels = np.arange(30, dtype=kind).reshape(5, 6)
    Pillow.fromarray(pixels).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    assert np.array_equal(image.data[0], pixels)
    assert not image.has_spacing
    assert image.name == "a"


def test_pages_and_other_formats_under_the_name_of_tiff_are_refused(tmp_path: Path) -> None:
    page = Pillow.fromarray(np.zeros((5, 6), np.uint8))
    page.save(tmp_path / "a.tiff", save_all=True, append_images=[page])
    with pytest.raises(InputError, match="2 pages"):
        read_image(tmp_path / "a.tiff")
    page.save(tmp_path / "b.png")
    with pytest.raises(InputError, match="as TIFF"):
        read_image((tmp_path / "b.png").rename(tmp_path / "b.tif"))


def test_unknown_names_say_what_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"x" * 200)
    with pytest.raises(InputError, match="MetaImage"):
        read_image(tmp_path / "a.xyz")
