"""Weights: safetensors with the model's specification as JSON metadata.

A program of another origin is a tensor of bytes in such a file. It can also be read from its own
file, by the TOML file beside it that describes it; nothing else is read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from napari_structseg.errors import WeightsError
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.references import FileReference, file_hash
from napari_structseg.models import ModelSpec, SegmentationNetwork, build_network
from napari_structseg.models.programs.settings import (
    SUFFIX as SETTINGS_SUFFIX,
)
from napari_structseg.models.programs.settings import (
    program_model,
    read_program,
    read_settings,
)

METADATA_KEY = "napari_structseg"
SUFFIX = ".safetensors"
_UNREADABLE = (SafetensorError, OSError, UnicodeDecodeError)
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_PICKLED = {".pt", ".pt2", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".npz", ".joblib", ".model"}


def save_weights(
    path: str | os.PathLike[str], network: SegmentationNetwork, spec: ModelSpec
) -> None:
    """Write a network's weights and specification, atomically.

    Parameters
    ----------
    path
        Destination, ``*.safetensors``.
    network
        The network; its tensors are stored contiguous, on the CPU, in their own dtype.
    spec
        The specification it was built from.

    Raises
    ------
    WeightsError
        If the name is not ``*.safetensors``, or the network is not the one that the specification
        describes, so that the file could not be loaded.
    InputError
        If the system refuses to write there.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise WeightsError(f"A model file must be named *{SUFFIX}, but {path.name} is not.")
    state = {k: v.detach().cpu() for k, v in network.state_dict().items()}
    problem = _mismatch({k: tuple(v.shape) for k, v in state.items()}, _expected(spec))
    if problem:
        raise WeightsError(
            f"The network is not the one that its specification describes: {problem}. Describe it "
            "with the ModelSpec it was built from; only networks of build_network can be saved."
        )
    write_tensors(path, state, _metadata(spec))


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically.

    Raises
    ------
    InputError
        If the system refuses to write there.
    """
    with atomic_path(path) as temporary:
        try:
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:
            # The library says in words alone that the disk is full.
            raise OSError(str(error)) from error


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Read a model's specification without its tensors.

    Parameters
    ----------
    path
        A file that :func:`save_weights` wrote.

    Raises
    ------
    WeightsError
        If the file is missing, is no safetensors file of this program, or describes a model
        that this version cannot build.
    """
    path = Path(path)
    if path.suffix == SETTINGS_SUFFIX:
        return _load_described(path)[1]
    _refuse_others(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if METADATA_KEY not in metadata:
        raise WeightsError(
            f"{path} is a safetensors file, but not a model of napari-structseg: its metadata "
            f"has no {METADATA_KEY!r} entry that says how to build the network. Train a model "
            "with 'structseg train', or save one with napari_structseg.save_model."
        )
    try:
        return ModelSpec.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in error.errors()
        )
        raise WeightsError(
            f"The description inside {path} does not fit this version of napari-structseg "
            f"({problems}). Update the program, or train the model again."
        ) from error


def load_weights(
    path: str | os.PathLike[str], device: torch.device | str = "cpu"
) -> tuple[SegmentationNetwork, ModelSpec]:
    """Rebuild a network from a file.

    Parameters
    ----------
    path
        A file that :func:`save_weights` wrote.
    device
        Where to put the network.

    Returns
    -------
    network
        On ``device``, in evaluation mode.
    spec
        Its specification.

    Raises
    ------
    WeightsError
        As :func:`read_spec`, or if tensors are missing, superfluous, not finite or of other
        shapes or types than the specification says.
    """
    path = Path(path)
    if path.suffix == SETTINGS_SUFFIX:
        network, spec = _load_described(path)
        return network.to(device), spec
    spec = read_spec(path)
    try:
        found, expected = _tensors(path, spec)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    for name, tensor in found.items():
        wants_float = expected[name].is_floating_point()
        # Floats of 8 bits are a torch type, but nothing computes with them.
        if wants_float != (tensor.dtype in _FLOATS) or tensor.is_complex():
            raise WeightsError(
                f"{path}: tensor {name!r} is {tensor.dtype}, expected {expected[name].dtype}. The "
                "file was altered; use the original."
            )
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{path}: tensor {name!r} holds NaN or infinity. The training diverged: train "
                "again with a lower learning rate."
            )
    with torch.device("meta"):
        network = build_network(spec)
    if spec.prior is not None:
        # What an MRF knows from its shape alone is in no file, so it needs memory from the start.
        with torch.random.fork_rng(devices=[]):
            network.prior = spec.prior.build(spec.dimensions, spec.n_classes)
    # A copy: the file may be replaced while the network is in use.
    own = {name: tensor.to(expected[name].dtype, copy=True) for name, tensor in found.items()}
    network.load_state_dict(own, assign=True)
    return network.to(device).eval(), spec


def _tensors(
    path: Path, spec: ModelSpec
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The tensors of a file, and those that its description asks for, without their memory."""
    altered = "The file was altered; use the original."
    with safe_open(path, framework="pt") as file:
        # A file's own header says what it holds: nothing is allocated for one that does not fit.
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        # Building a network takes time for each layer, even without memory.
        least = sum(spec.backbone.convolutions) * (spec.n_members if spec.kind == "ensemble" else 1)
        if spec.program is not None:
            least = 1
        if least > len(shapes):
            raise WeightsError(
                f"{path} does not hold the tensors its description asks for: {len(shapes)} of at "
                f"least {least}. {altered}"
            )
        expected = _expected(spec)
        problem = _mismatch(shapes, expected)
        if problem:
            raise WeightsError(
                f"{path} does not hold the tensors its description asks for: {problem}. {altered}"
            )
        return {name: file.get_tensor(name) for name in shapes}, expected


def _unreadable(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is not a readable safetensors file ({error}). It may be truncated: copy or "
        "download it again."
    )


def _expected(spec: ModelSpec) -> dict[str, torch.Tensor]:
    """The tensors of a network of this specification, without their memory."""
    try:
        with torch.device("meta"):
            return build_network(spec).state_dict()
    except RuntimeError as error:
        raise WeightsError(
            f"The model {spec.name!r} describes a network too large for any computer ({error})."
        ) from error


def _mismatch(found: dict[str, tuple[int, ...]], expected: dict[str, torch.Tensor]) -> str:
    """What is wrong with the names or shapes of tensors; empty where nothing is."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or extra:
        return f"missing {missing[:3] or 'none'}, superfluous {extra[:3] or 'none'}"
    for name, shape in found.items():
        if shape != expected[name].shape:
            return f"{name!r} has shape {shape}, expected {tuple(expected[name].shape)}"
    return ""


def weights_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file, for recipes that name exactly one model.

    Of a TOML file that describes a program, that of the one file which both would be: it changes
    with either of them.

    Raises
    ------
    InputError, ConfigError, WeightsError
        If the file, or the program beside it, cannot be read.
    """
    path = Path(path)
    if path.suffix != SETTINGS_SUFFIX:
        return file_hash(path)
    network, spec = _load_described(path)
    return hashlib.sha256(save(network.state_dict(), _metadata(spec))).hexdigest()


def refer_to_model(path: str | os.PathLike[str]) -> FileReference:
    """The reference to a model's file as it is now, with the hash of :func:`weights_hash`."""
    return FileReference(name=Path(path).name, sha256=weights_hash(path))


def copy_model(path: Path, out: Path) -> None:
    """Copy a model's file; a program and its settings become one file.

    Raises
    ------
    InputError, ConfigError, WeightsError
        If a file cannot be read, or the system refuses to write.
    """
    if path.suffix == SETTINGS_SUFFIX:
        save_weights(out, *_load_described(path))
        return
    with atomic_path(out) as temporary:
        shutil.copyfile(path, temporary)


def _load_described(path: Path) -> tuple[SegmentationNetwork, ModelSpec]:
    """The model that a TOML file and the program beside it make."""
    settings = read_settings(path)
    return program_model(settings, *read_program(path.parent / settings.program))


def _metadata(spec: ModelSpec) -> dict[str, str]:
    return {METADATA_KEY: spec.model_dump_json()}


def _refuse_others(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(10)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WeightsError(f"There is no model file at {path}.") from error
    except OSError as error:
        raise WeightsError(
            f"Cannot read {path}: {error.strerror or error}. Check that you may read the file."
        ) from error
    # safetensors: 8 bytes of header length, then JSON. Those bytes may be any, so a pickle's
    # first byte alone proves nothing.
    is_safetensors = len(head) == 10 and head[8:9] == b"{"
    pickled = head[:2] == b"PK" or head[:1] == b"\x80"
    if path.suffix.lower() in _PICKLED or (pickled and not is_safetensors):
        raise WeightsError(
            f"{path} looks like a pickled or zipped checkpoint. Opening one can run any program "
            "hidden in it, so it is refused. A TorchScript (.pt) or torch.export (.pt2) program is "
            "no such thing: make a model of it with 'structseg import'. Weights of a network of "
            "ours are converted where you trust them: load them with "
            "torch.load(..., weights_only=True) and save them with napari_structseg.save_model, "
            "which writes .safetensors."
        )
    if not is_safetensors:
        raise WeightsError(
            f"{path} is not a safetensors file. Models are .safetensors files written by "
            "'structseg train' or napari_structseg.save_model."
        )
