"""What is damaged, or would run code or fill the memory, is refused by message."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 -- makes what is refused
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_structseg.errors import InputError
from napari_structseg.io.other_programs.nnunet import find_prediction
from napari_structseg.io.other_programs.npz import find_array
from napari_structseg.io.other_programs.plain_data import read_plain_data
from other_programs import probabilities, truth, write_v1, write_v2


def pickled(folder: Path, value: object, protocol: int = 4) -> Path:
    path = folder / "case.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(1, 6))
def test_plain_data_is_read(tmp_path: Path, protocol: int) -> None:
    value: dict[str, Any] = {
        "ints": [0, -1, 300, 2**70],
        "tuple": (1.5, "text", None, True, b"\xff"),
        "order": OrderedDict(a={"b": ()}),
        "array": np.arange(6, dtype=">i4").reshape(2, 3),
        "columns": np.asfortranarray(np.eye(3, dtype=np.float16)),
        "numbers": [np.float64(2.5), np.int64(3)],
        "empty": np.zeros((0, 3)),
    }
    made = read_plain_data(pickled(tmp_path, value, protocol))
    assert isinstance(made, dict)
    assert made.keys() == value.keys()
    for name in ("ints", "tuple", "order", "numbers"):
        assert made[name] == value[name]
    for name in ("array", "columns", "empty"):
        np.testing.assert_array_equal(made[name], value[name])


class Touch:
    """Writes a file when it is unpickled the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_never_runs(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    path = pickled(tmp_path, {"itk_spacing": Touch(target)})
    with pytest.raises(InputError, match="foreign code"):
        read_plain_data(path)
    assert not target.exists()
    # The usual way would have.
    pickle.loads(path.read_bytes())
    assert target.exists()


def nested() -> object:
    key: object = ()
    for _ in range(60):
        key = (key, key)
    return key


HOSTILE = {
    "objects": pickle.dumps(np.array([object, print], dtype=object)),
    "a function": pickle.dumps(print),
    "a huge array": pickle.dumps(np.zeros(3)).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85", 1),
    "a name that takes forever": b"\x80\x04}" + pickle.dumps(nested())[2:-1] + b"K\x01s.",
    "deep": b"\x80\x04" + b"]" * 200 + b"a" * 199 + b".",
    "many kept": b"\x80\x04]r\xff\xff\xff\x7f.x",
    "no end": b"\x80\x04]",
    "nothing": b"",
    "too few": b"\x80\x04\x86.",
    "long bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "text": b"PK\x03\x04 not a pickle",
    "a loop": b"\x80\x04]\x94h\x00a.",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_no_pickle_is_more_than_its_bytes(tmp_path: Path, what: str) -> None:
    path = tmp_path / "case.pkl"
    path.write_bytes(HOSTILE[what])
    if what in ("a loop", "many kept"):
        assert isinstance(read_plain_data(path), list)
        return
    with pytest.raises(InputError):
        read_plain_data(path)


def npz(
    path: Path, header: bytes, content: bytes = b"", method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("probabilities.npy", header + content)
    return path


def header_of(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def test_arrays_are_judged_by_their_headers(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    keys = ("probabilities",)
    np.savez(path, probabilities=np.array([None, {}], dtype=object))
    with pytest.raises(InputError, match="objects are refused"):
        find_array(path, keys)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(InputError, match="it holds other"):
        find_array(path, keys)
    with pytest.raises(InputError, match="cut short"):
        find_array(npz(path, header_of((50_000, 1000, 1000, 1000))), keys)
    with pytest.raises(InputError, match="packed in a way"):
        find_array(npz(path, header_of((2,)), b"\0" * 8, zipfile.ZIP_LZMA), keys)
    found = find_array(npz(path, header_of((4,)), b"\0" * 12), keys)
    with pytest.raises(InputError, match="4 bytes of 'probabilities' are missing"):
        found.read()
    with pytest.raises(InputError, match="longer than its header"):
        find_array(npz(path, header_of((4,)), b"\0" * 20), keys).read()
    for cut in (b"(4,", b"'shape'"):
        damaged = header_of((4,)).replace(b"(4,)", b"(4, ").replace(cut, b"(" * len(cut))
        with pytest.raises(InputError, match=r"as \.npz"):
            find_array(npz(path, damaged), keys)
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"as \.npz"):
        find_array(path, keys)
    with pytest.raises(InputError, match="no file"):
        find_array(tmp_path / "none.npz", keys)


def test_a_bad_bit_in_an_array_is_found(tmp_path: Path) -> None:
    path = npz(tmp_path / "case.npz", header_of((4000,)), b"\1" * 16000, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[8000] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match="Bad CRC"):
        find_array(path, ("probabilities",)).read()


def test_properties_that_say_nothing_of_the_place(tmp_path: Path) -> None:
    maps = probabilities(truth())
    path = write_v2(tmp_path, maps, sitk_stuff=None)
    with pytest.raises(InputError, match="does not say where"):
        find_prediction(path)
    pickled(tmp_path, [1, 2])
    with pytest.raises(InputError, match="holds a list"):
        find_prediction(path)
    (tmp_path / "case.pkl").unlink()
    with pytest.raises(InputError, match=r"case\.pkl, which is missing"):
        find_prediction(path)
    np.savez(path, probabilities=maps[0])
    pickled(tmp_path, {})
    with pytest.raises(InputError, match=r"as \(classes, z, y, x\)"):
        find_prediction(path)


def test_a_crop_that_does_not_fit(tmp_path: Path) -> None:
    maps = probabilities(truth())
    with pytest.raises(InputError, match="is not inside"):
        find_prediction(write_v1(tmp_path, maps, crop_bbox=[[0, 6], [0, 7], [5, 99]]))
    with pytest.raises(InputError, match="does not have the size"):
        find_prediction(write_v1(tmp_path, maps, size_after_cropping=(1, 2, 3)))
    found = find_prediction(
        write_v1(tmp_path, maps, crop_bbox=None, size_after_cropping=(7, 9, 11))
    )
    with pytest.raises(InputError, match="was cropped to"):
        found.read()
