"""Files that a fuzzing run found: each was a traceback, a hang or too much memory."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_structseg.cohort.rows import RowFile
from napari_structseg.data.stack import read_stack
from napari_structseg.errors import ConfigError, InputError, StructSegError, WeightsError
from napari_structseg.io import atomic_path
from napari_structseg.io.nifti import read_image
from napari_structseg.io.png import read_png
from napari_structseg.io.weights import METADATA_KEY, load_weights, save_weights, weights_hash
from napari_structseg.memory import available_memory
from napari_structseg.results.recipe_files import read_recipe
from napari_structseg.training.config import read_config
from tiny_models import tiny_model

FIELD = 108  # of vox_offset in a NIfTI-1 header


def scan(path: Path, **fields: float) -> Path:
    nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)).to_filename(path)
    return path


@pytest.mark.parametrize("offset", [np.inf, np.nan, -np.inf, 1e30, 1e9])
def test_voxels_that_begin_nowhere_are_refused(offset: float, tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii")
    block = bytearray(path.read_bytes())
    block[FIELD : FIELD + 4] = struct.pack("<f", offset)
    path.write_bytes(block)
    with pytest.raises(InputError, match="voxels begin at byte"):
        read_image(path)


def test_zeros_behind_the_voxels_are_not_unpacked_for_hours(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii")
    # Members of a gzip file follow each other: 8 GB in 8 MB.
    member = gzip.compress(bytes(1 << 24), 1)
    with (tmp_path / "scan.nii.gz").open("wb") as file:
        file.write(gzip.compress(path.read_bytes()))
        for _ in range(512):
            file.write(member)
    with pytest.raises(InputError, match="16 MiB behind the voxels"):
        read_image(tmp_path / "scan.nii.gz")


def test_a_little_padding_behind_the_voxels_is_read(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii")
    padded = tmp_path / "scan.nii.gz"
    padded.write_bytes(gzip.compress(path.read_bytes() + bytes(4096)))
    assert np.array_equal(read_image(padded).data, read_image(path).data)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(60_000, 60_000), "60000 x 60000 pixels"),
        (png(2**31 - 1, 2**31 - 1), "pixels, but at most"),
        (png(2000, 2000), "Cannot read"),
        (png(0, 7), "Cannot read"),
        (b"\x89PN", "not a PNG file"),
        (b"", "not a PNG file"),
        (b"BM" + bytes(200), "not a PNG file"),
    ],
)
def test_png_that_is_none_or_a_bomb_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_png(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    tiny_model(path)
    return path


def described(path: Path) -> dict:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    spec: dict = json.loads(header["__metadata__"][METADATA_KEY])
    return spec


def altered(path: Path, change) -> Path:
    spec, tensors = described(path), load_file(path)
    change(spec, tensors)
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(spec)})
    return path


def deep(spec: dict, tensors: dict) -> None:
    levels = len(spec["backbone"]["widths"])
    spec["backbone"]["convolutions"] = [10_000] * levels


def layered(spec: dict, tensors: dict) -> None:
    spec["backbone"] |= {"widths": [4] * 5000, "convolutions": [1] * 5000}


def ranked(spec: dict, tensors: dict) -> None:
    spec["head"]["rank"] = 2**62


def many(spec: dict, tensors: dict) -> None:
    levels = len(spec["backbone"]["widths"])
    spec["backbone"]["convolutions"] = [32] * levels
    spec["head"] = {"kind": "ensemble", "members": 100}


def eight_bits(spec: dict, tensors: dict) -> None:
    name = next(name for name in tensors if tensors[name].is_floating_point())
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)


def complex_numbers(spec: dict, tensors: dict) -> None:
    name = next(name for name in tensors if tensors[name].is_floating_point())
    tensors[name] = tensors[name].to(torch.complex64)


@pytest.mark.parametrize("change", [deep, layered, ranked, many, eight_bits, complex_numbers])
def test_model_that_no_network_fits_is_refused_at_once(change, model: Path) -> None:
    with pytest.raises(WeightsError):
        load_weights(altered(model, change))


def test_reading_of_weights_that_are_gone_is_a_readable_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        weights_hash(tmp_path / "gone.safetensors")


def header_of(dictionary: bytes) -> bytes:
    padded = dictionary.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded


@pytest.mark.parametrize(
    "content",
    [
        header_of(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1"),
        header_of(b"{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296,)}"),
        header_of(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 5)}"),
        header_of(b"{'descr': [], 'fortran_order': False, 'shape': (5,)}"),
        header_of(b"{'descr': '|u1', 'fortran_order': 7, 'shape': ('a',)}"),
        header_of(b"{" * 100),
        b"\x93NUMPY\x01\x00",
        b"",
    ],
)
def test_array_with_a_bad_header_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "a"}, "labels": {"background": 0, "one": 1}})
    )
    (tmp_path / "images.npy").write_bytes(content)
    np.save(tmp_path / "labels.npy", np.zeros((1, 1, 4, 4), np.uint8))
    (tmp_path / "cases.csv").write_text("case,patient,split\na,b,train\n")
    with pytest.raises(ConfigError, match=r"images\.npy"):
        read_stack(tmp_path)


ROW = {
    "model": "0" * 64,
    "case": "a",
    "patient": "p",
    "seed": 1,
    "scores": {"ged": [0.5]},
    "reliability": [[1.0], [1.0], [1.0]],
}


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b"[" * 5000 + b"]" * 5000 + b"\n",
        json.dumps(ROW | {"scores": {"\0": [0.5]}}).encode() + b"\n",
        json.dumps({"case": "a"}).encode() + b"\n",
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_rows_of_foreign_bytes_are_refused(line: bytes, at: int, tmp_path: Path) -> None:
    path = tmp_path / "e.rows.jsonl"
    lines = [json.dumps({"format_version": 1, "settings": {}}), json.dumps(ROW)]
    found = [one.encode() + b"\n" for one in lines]
    found.insert(at, line)
    path.write_bytes(b"".join(found))
    with pytest.raises(InputError, match=r"e\.rows\.jsonl"):
        RowFile(path, {}, resume=True)


@pytest.mark.parametrize("text", [f"steps = {'9' * 5000}", f"patch = {'[' * 5000}{']' * 5000}"])
def test_configuration_that_no_parser_takes_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_config(tmp_path / "config.toml")


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000 + "]" * 100_000, "\0", "{"])
def test_recipe_that_no_parser_takes_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InputError, match=r"recipe\.json is not"):
        read_recipe(tmp_path / "recipe.json")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "there/is/none"])
def test_folder_that_cannot_be_is_a_readable_error(name: str, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="Cannot write"),
        atomic_path(tmp_path / name / "file.json"),
    ):
        raise AssertionError("nothing is written")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from napari_structseg.errors import InputError
from napari_structseg.image import Image
from napari_structseg.io.nifti import write_volume
from napari_structseg.io.weights import load_weights, save_weights
model, folder = sys.argv[1:]
network, spec = load_weights(model)
labels = np.random.default_rng(0).integers(0, 255, (64, 64, 64)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for write in (
    lambda: save_weights(Path(folder) / "model.safetensors", network, spec),
    lambda: write_volume(
        Path(folder) / "labels.nii.gz", labels, Image.from_array(labels).geometry, dtype=np.uint8
    ),
):
    try:
        write()
    except InputError as error:
        print(error)
"""


def test_full_disk_is_a_readable_error_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"what was there")
    finished = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(model), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("Check that the disk has room") == 2
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"what was there"


def test_folder_that_became_a_file_is_a_readable_error(model: Path, tmp_path: Path) -> None:
    network, spec = load_weights(model)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StructSegError, match="Cannot write"):
        save_weights(tmp_path / "file" / "model.safetensors", network, spec)


def test_a_limit_on_the_process_counts_as_memory() -> None:
    code = """
import resource
from napari_structseg.memory import available_memory
limit = 3 * 10**9
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(available_memory())
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 0 < int(finished.stdout) < 3 * 10**9
    assert available_memory()
