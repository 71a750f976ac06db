from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_structseg.errors import InputError, WeightsError
from napari_structseg.io.model_files import find_model, shipped_models
from napari_structseg.io.weights import (
    METADATA_KEY,
    load_weights,
    read_spec,
    save_weights,
    weights_hash,
)
from napari_structseg.models import BackboneSpec, ClassSpec, HeadSpec, ModelSpec, build_network

SPEC = ModelSpec(
    name="tiny",
    dimensions=2,
    channels=("T1",),
    classes=(
        ClassSpec(name="background", color="#000000"),
        ClassSpec(name="lesion", color="#ff0000"),
    ),
    patch=(8, 8),
    backbone=BackboneSpec(widths=(4, 8), convolutions=(1, 1), norm="batch"),
    head=HeadSpec(rank=2),
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, build_network(SPEC), SPEC)
    return path


def rewritten(path: Path, tensors=None, metadata=None) -> Path:
    """The same file with other tensors or other metadata."""
    altered = path.with_name("altered.safetensors")
    if metadata is None:
        metadata = {METADATA_KEY: SPEC.model_dump_json()}
    save_file(load_file(path) if tensors is None else tensors, altered, metadata=metadata)
    return altered


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    network = build_network(SPEC)
    network(torch.rand(4, 1, 8, 8))  # The running means of batch normalisation are part of it.
    save_weights(path, network, SPEC)
    loaded, spec = load_weights(path)
    assert spec == SPEC == read_spec(path)
    assert not loaded.training
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name])
        assert tensor.dtype == expected[name].dtype
    image = torch.rand(1, 1, 9, 7)
    network.eval()
    for ours, theirs in zip(vars_of(loaded(image)), vars_of(network(image)), strict=True):
        assert torch.equal(ours, theirs)


def vars_of(parameters) -> tuple[torch.Tensor, ...]:
    return parameters.mean, parameters.factor, parameters.diagonal


def test_loaded_network_can_be_trained_on(saved: Path) -> None:
    network, _ = load_weights(saved)
    network.train()(torch.rand(1, 1, 8, 8)).mean.sum().backward()
    assert network.head.mean.weight.grad is not None


def test_loading_leaves_the_random_numbers_alone(saved: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_weights(saved)
    assert torch.equal(torch.rand(3), expected)


def test_loaded_network_does_not_change_with_its_file(saved: Path) -> None:
    network, _ = load_weights(saved)
    before = network.head.mean.weight.clone()
    saved.write_bytes(bytes(saved.stat().st_size))
    assert torch.equal(network.head.mean.weight, before)


def test_half_precision_weights_are_used_in_single_precision(saved: Path) -> None:
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(saved).items()
    }
    network, _ = load_weights(rewritten(saved, half))
    assert network.head.mean.weight.dtype == torch.float32


def test_only_the_network_of_the_specification_can_be_saved(tmp_path: Path) -> None:
    other = SPEC.model_copy(update={"channels": ("T1", "T2")})
    with pytest.raises(WeightsError, match=r"not the one that its specification describes.*shape"):
        save_weights(tmp_path / "tiny.safetensors", build_network(SPEC), other)
    assert list(tmp_path.iterdir()) == []


def test_name_without_the_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"must be named \*.safetensors, but tiny.pt is not"):
        save_weights(tmp_path / "tiny.pt", build_network(SPEC), SPEC)


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        save_weights(tmp_path / "missing" / "tiny.safetensors", build_network(SPEC), SPEC)


def test_pickle_is_refused_without_being_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"x": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="can run any program"):
        load_weights(path)


def test_zipped_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"")
    with pytest.raises(
        WeightsError, match=r"looks like a pickled or zipped checkpoint.*save_model"
    ):
        load_weights(path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl", ".npz"])
def test_name_of_a_pickle_is_refused(saved: Path, suffix: str) -> None:
    with pytest.raises(WeightsError, match="pickled or zipped"):
        load_weights(saved.rename(saved.with_suffix(suffix)))


@pytest.mark.parametrize("content", [b"", b"\x00", b"just some text in a file", bytes(64)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_weights(path)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.999])
def test_truncated_file_is_refused(saved: Path, fraction: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(WeightsError, match="may be truncated: copy or download it again"):
        load_weights(saved)


def test_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + b'{"a":1}')
    with pytest.raises(WeightsError, match="is not a readable safetensors file"):
        load_weights(path)


def test_safetensors_of_another_program_is_refused(saved: Path) -> None:
    with pytest.raises(WeightsError, match="has no 'napari_structseg' entry"):
        load_weights(rewritten(saved, metadata={"format": "pt"}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 99}, "format_version"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"classes": []}, "classes"),
    ],
)
def test_description_of_another_version_is_refused(saved: Path, change, reason: str) -> None:
    described = json.dumps(json.loads(SPEC.model_dump_json()) | change)
    with pytest.raises(WeightsError, match=rf"does not fit this version.*{reason}"):
        load_weights(rewritten(saved, metadata={METADATA_KEY: described}))


def alter(change):
    def altered(path: Path) -> Path:
        tensors = load_file(path)
        change(tensors)
        return rewritten(path, tensors)

    return altered


def set_nan(tensors) -> None:
    tensors["head.mean.weight"][0] = torch.nan


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("head.mean.bias"), r"missing \['head.mean.bias'\]"),
        (lambda t: t.update(extra=torch.zeros(1)), r"superfluous \['extra'\]"),
        (
            lambda t: t.update({"head.mean.bias": torch.zeros(3)}),
            r"'head.mean.bias' has shape \(3,\), expected \(2,\)",
        ),
        (
            lambda t: t.update({"head.mean.bias": torch.zeros(2, dtype=torch.int64)}),
            "is torch.int64, expected torch.float32",
        ),
        (set_nan, "'head.mean.weight' holds NaN or infinity"),
    ],
)
def test_altered_tensors_are_refused(saved: Path, change, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        load_weights(alter(change)(saved))


def test_network_too_large_for_its_file_is_refused_before_it_is_built(saved: Path) -> None:
    # 4 * 10^10 parameters: building it would fail for lack of memory.
    wide = BackboneSpec(widths=(65536, 65536), convolutions=(1, 1), norm="batch")
    huge = SPEC.model_copy(update={"backbone": wide})
    with pytest.raises(WeightsError, match="has shape"):
        load_weights(rewritten(saved, metadata={METADATA_KEY: huge.model_dump_json()}))
    beyond = wide.model_copy(update={"widths": (2**62, 2**62)})
    beyond_any = SPEC.model_copy(update={"backbone": beyond})
    with pytest.raises(WeightsError, match="less than or equal to 65536"):
        load_weights(rewritten(saved, metadata={METADATA_KEY: beyond_any.model_dump_json()}))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no model file at .*nothing"):
        load_weights(tmp_path / "nothing.safetensors")


def test_hash_names_the_file(saved: Path) -> None:
    assert weights_hash(saved) == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_model_is_found_by_path(saved: Path) -> None:
    assert find_model(str(saved)) == saved


def test_unknown_model_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no model called 'kidney' and no such file") as raised:
        find_model("kidney")
    assert all(name in str(raised.value) for name in shipped_models())
    with pytest.raises(WeightsError, match="no such file"):
        find_model(str(tmp_path))


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_model_loads(name: str) -> None:
    network, spec = load_weights(find_model(name))
    assert spec.name == name
    assert spec.training.data
    assert spec.training.licence
    assert not network.training


@pytest.mark.parametrize(("name", "file"), sorted(shipped_models().items()))
def test_shipped_model_is_small_and_has_a_card(name: str, file: Path) -> None:
    assert file.stat().st_size <= 5 * 2**20
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    for said in ("Research use", "Licence", "## Limits"):
        assert said in card


def test_lung_nodule_names_whose_data_it_is_from() -> None:
    file = find_model("lung-nodule")
    card = " ".join(file.with_suffix(".md").read_text(encoding="utf-8").split())
    for text in (card, read_spec(file).training.data):
        assert "Armato" in text
        assert "CC BY 3.0" in text
        assert "National Cancer Institute" in text
