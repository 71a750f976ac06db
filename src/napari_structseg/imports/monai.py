"""A MONAI bundle: its TorchScript program, and settings from what it says of itself.

``configs/metadata.json`` says what goes in and comes out, ``configs/inference.json`` how images are
prepared. Both are read as data: what they would have Python evaluate ("$...") or refer to ("@...")
is left out, and asked for where it is needed.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_structseg.errors import ConfigError, WeightsError
from napari_structseg.memory import check_memory
from napari_structseg.models.program_spec import MAX_PROGRAM_BYTES

_METADATA, _INFERENCE, _PROGRAM = (
    "configs/metadata.json",
    "configs/inference.json",
    "models/model.ts",
)
_WEIGHTS = "models/model.pt"
_MAX_JSON_BYTES = 1 << 22
_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_MULTIPLE = re.compile(r"\s*(\d+)\s*(?:\*\s*[a-z]|\*\*\s*p\s*\*\s*n)\s*")
_LETTERS = re.compile("[RL][AP][SI]")


# A file of the bundle by its name, of at most so many bytes; None: there is none. With 0, nothing
# of it is read.
_Read = Callable[[str, int], bytes | None]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle brings.

    Attributes
    ----------
    program
        The bytes of its TorchScript file.
    name
        Of that file.
    table
        Settings as far as it says them, as in a TOML file.
    """

    program: bytes
    name: str
    table: dict[str, Any]


def is_bundle(path: Path) -> bool:
    """Whether a folder or a zip file holds the metadata of a bundle."""
    if path.is_dir():
        return (path / _METADATA).is_file()
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return any(_is(name, _METADATA) for name in file.namelist())
    except _BROKEN:
        return False


def read_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Parameters
    ----------
    path
        Its folder, or the zip file of it.

    Raises
    ------
    WeightsError
        If it holds no program, is damaged, or its classes overlap.
    MemoryLimitError
        If the program does not fit into memory.
    """
    read = _in_folder(path) if path.is_dir() else _in_zip(path)
    metadata = _object(read(_METADATA, _MAX_JSON_BYTES), _METADATA)
    program = read(_PROGRAM, MAX_PROGRAM_BYTES)
    if program is None:
        weights = "weights alone (models/model.pt)" if read(_WEIGHTS, 0) is not None else "nothing"
        raise WeightsError(
            f"The bundle {path.name} holds no program {_PROGRAM}, but {weights}. Where you trust "
            "it, let MONAI write the program: python -m monai.bundle ckpt_export network_def "
            "--filepath models/model.ts --ckpt_file models/model.pt --meta_file "
            "configs/metadata.json --config_file configs/inference.json"
        )
    inference = _object(read(_INFERENCE, _MAX_JSON_BYTES) or b"{}", _INFERENCE)
    try:
        table = _settings(metadata, inference, path.stem)
    except RecursionError as error:
        raise WeightsError(f"The files of the bundle {path.name} are nested too deep.") from error
    return Bundle(program, Path(_PROGRAM).name, table)


def _settings(
    metadata: Mapping[str, Any], inference: Mapping[str, Any], name: str
) -> dict[str, Any]:
    formats = _table(metadata.get("network_data_format"))
    image = _first(formats.get("inputs"))
    pred = _first(formats.get("outputs"))
    transforms = list(_tables(inference))
    window = _named(transforms, "SlidingWindowInferer")
    table: dict[str, Any] = {"name": str(metadata.get("name") or name)[:200], "axes": "xyz"}
    table.update(_texts(metadata))
    table.update(_sizes(image, window))
    table.update(_space(transforms))
    table.update(_intensity(transforms))
    channels, classes = _definitions(image), _definitions(pred)
    if channels:
        table["channels"] = channels
    if len(classes) > 1:
        table["classes"] = classes
    if _named(transforms, "Activationsd").get("sigmoid") is True:
        if len(classes) > 2 or pred.get("num_channels", 1) != 1:
            raise WeightsError(
                f"The classes of the bundle {name} overlap (a sigmoid for each of them), but here "
                "a voxel has one class. Export a network that ends in a softmax."
            )
        table["outputs"] = {"channels": 1}
    return table


def _texts(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for ours, theirs in (("description", "task"), ("data", "data_source")):
        if isinstance(metadata.get(theirs), str):
            yield ours, metadata[theirs]


def _sizes(image: Mapping[str, Any], window: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    shape = image.get("spatial_shape")
    shape = shape if isinstance(shape, list) else []
    if len(shape) in (2, 3):
        yield "dimensions", len(shape)
    multiples = [_MULTIPLE.fullmatch(one) for one in shape if isinstance(one, str)]
    found = [int(one[1]) for one in multiples if one is not None]
    if shape and len(found) == len(shape):
        yield "sizes", "multiple"
        yield "divisor", max(found)
    patch = _numbers(window.get("roi_size")) or _numbers(shape)
    if patch:
        yield "patch", [int(one) for one in reversed(patch)]
    overlap = window.get("overlap")
    if isinstance(overlap, int | float) and not isinstance(overlap, bool):
        yield "overlap", float(overlap)


def _space(transforms: list[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    spacing = _numbers(_named(transforms, "Spacingd").get("pixdim"))
    if spacing:
        yield "spacing", [float(one) for one in reversed(spacing)]
    letters = _named(transforms, "Orientationd").get("axcodes")
    if isinstance(letters, str) and _LETTERS.fullmatch(letters):
        yield "orientation", letters


def _intensity(transforms: list[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    ranged = _named(transforms, "ScaleIntensityRanged")
    ends = [ranged.get(name) for name in ("a_min", "a_max", "b_min", "b_max")]
    if _numbers(ends) and ranged.get("clip") is True:
        low, high, first, last = (float(one) for one in _numbers(ends))
        yield "intensity", {"kind": "window", "low": low, "high": high, "span": [first, last]}
    elif _named(transforms, "NormalizeIntensityd").get("nonzero") is True:
        yield "intensity", {"kind": "zscore"}


def _definitions(entry: Mapping[str, Any]) -> list[str]:
    """Names of channels in their order; none where they are not those of 0, 1, 2 and so on."""
    named = _table(entry.get("channel_def"))
    names = [named.get(str(index)) for index in range(len(named))]
    texts = [one for one in names if isinstance(one, str) and one]
    return texts if len(texts) == len(names) and len(set(texts)) == len(texts) else []


def _tables(value: object) -> Iterator[Mapping[str, Any]]:
    """Every table inside, however deep."""
    if isinstance(value, dict):
        if value.get("_disabled_") is not True:
            yield value
            for one in value.values():
                yield from _tables(one)
    elif isinstance(value, list):
        for one in value:
            yield from _tables(one)


def _named(transforms: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The first transform of a kind; empty where there is none."""
    return next((one for one in transforms if one.get("_target_") == name), {})


def _first(value: object) -> Mapping[str, Any]:
    return next((one for one in _table(value).values() if isinstance(one, dict)), {})


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> list[float]:
    """A list of numbers; empty where any of it is something else."""
    if not isinstance(value, list):
        return []
    numbers = [one for one in value if isinstance(one, int | float) and not isinstance(one, bool)]
    return numbers if len(numbers) == len(value) else []


def _object(content: bytes | None, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(content or b"")
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name} of the bundle is no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{name} of the bundle is no JSON object.")
    return found


def _in_folder(folder: Path) -> _Read:
    def read(name: str, most: int) -> bytes | None:
        path = folder / name
        if not path.is_file():
            return None
        try:
            _check_size(path.stat().st_size, most, name)
            return path.read_bytes() if most else b""
        except OSError as error:
            raise WeightsError(f"Cannot read {path}: {error.strerror}.") from error

    return read


def _in_zip(path: Path) -> _Read:
    def read(name: str, most: int) -> bytes | None:
        try:
            with zipfile.ZipFile(path) as file:
                found = [one for one in file.infolist() if _is(one.filename, name)]
                if not found:
                    return None
                _check_size(found[0].file_size, most, name)
                return file.read(found[0]) if most else b""
        except _BROKEN as error:
            raise WeightsError(f"The bundle {path} is damaged ({error}).") from error

    return read


def _is(member: str, name: str) -> bool:
    return member == name or member.endswith(f"/{name}")


def _check_size(size: int, most: int, name: str) -> None:
    if most and size > most:
        raise ConfigError(f"{name} of the bundle has {size} bytes, but at most {most} are read.")
    check_memory(3 * size, f"Reading {name}")
