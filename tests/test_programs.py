"""Programs of other origin as models: what they give, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_structseg.cli import main
from napari_structseg.distributions import LogitDistribution, Noise
from napari_structseg.errors import ConfigError, MemoryLimitError, WeightsError
from napari_structseg.image import Image
from napari_structseg.imports.programs import check_program
from napari_structseg.io.weights import load_weights, read_spec, weights_hash
from napari_structseg.models.programs.settings import read_settings_table
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.program_run import tile_weight, tiles
from napari_structseg.testing.predictors import PredictorContract
from nifti_files import save
from predict_helpers import OBLIQUE, SHAPE, blob, voxels
from program_helpers import Asymmetric, Normal, own_as_program, settings_of, traced
from test_predictor_contract import random_image
from tiny_models import CLASSES, tiny_model

CLASS_TABLES = [one.model_dump() for one in CLASSES]
WHOLE = {"sizes": "multiple", "divisor": 2, "patch": [64, 64, 64], "classes": CLASS_TABLES}
EXAMPLE = torch.rand(1, 1, 8, 8, 8)


class TestTiles(PredictorContract):
    """Overlapping tiles of a stochastic program."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Path:
        model = tiny_model(tmp_path / "tiny.safetensors")
        program = own_as_program(model, tmp_path / "own.pt", Normal)
        return settings_of(
            program, classes=CLASS_TABLES, head="ssn", rank=3, sizes="multiple", divisor=2
        )

    @pytest.fixture
    def predictor(self, settings: Path) -> Predictor:
        return Predictor(*load_weights(settings))

    @pytest.fixture
    def image(self) -> Image:
        return random_image((14, 12, 10))

    @pytest.fixture
    def misfit(self, image: Image) -> Image:
        return random_image(image.spatial_shape, n_channels=2)

    @pytest.fixture
    def broken(self, tmp_path: Path) -> Callable[[Image], LogitDistribution]:
        network = Asymmetric()
        with torch.no_grad():
            network.second.bias[0] = float("nan")
        settings = settings_of(traced(network, tmp_path / "nan.pt", EXAMPLE))
        return Predictor(*load_weights(settings)).predict


@pytest.mark.parametrize("image", [random_image((14, 12, 10)), random_image((5, 7, 9))])
def test_a_scripted_copy_of_our_network_gives_what_it_gives(tmp_path: Path, image: Image) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    program = own_as_program(model, tmp_path / "own.pt", Normal)
    settings = settings_of(program, head="ssn", rank=3, epsilon=1e-30, **WHOLE)
    ours, theirs = (Predictor(*load_weights(one)).predict(image) for one in (model, settings))
    torch.testing.assert_close(theirs.mean(), ours.mean(), rtol=0, atol=1e-5)
    assert torch.equal(theirs.mean().argmax(0), ours.mean().argmax(0))
    noise = Noise(7, 1)
    sample, expected = (one.mean() + one.offset(noise) for one in (theirs, ours))
    torch.testing.assert_close(sample, expected, rtol=0, atol=5e-3)


def test_blended_parameters_are_averages_of_those_of_tiles(tmp_path: Path) -> None:
    program = traced(Asymmetric(), tmp_path / "net.pt", EXAMPLE)
    window = {"kind": "window", "low": 0.0, "high": 1.0}
    network, spec = load_weights(settings_of(program, intensity=window))
    image = random_image((8, 8, 12))
    predictor = Predictor(network, spec)
    assert predictor.n_steps(image) == 2
    shown = torch.from_numpy(image.data)[None]
    weight, total = tile_weight((8, 8, 8)), torch.zeros(8, 8, 12)
    expected = torch.zeros(3, 8, 8, 12)
    for part in (slice(0, 8), slice(4, 12)):
        expected[..., part] += weight * network(shown[..., part]).mean[0]
        total[..., part] += weight
    found = predictor.predict(image).mean()
    torch.testing.assert_close(found, expected / total, rtol=0, atol=1e-4)


def test_tiles_cover_and_overlap() -> None:
    covered = np.zeros((20, 9))
    for tile in tiles((20, 9), (8, 8), 0.5):
        assert [part.stop - part.start for part in tile] == [8, 8]
        covered[tile] += 1
    assert covered.min() >= 1
    assert (covered[4:16] >= 2).all()
    assert tiles((8, 8), (8, 8), 0.75) == [(slice(0, 8), slice(0, 8))]


class Turned(nn.Module):
    """Takes and returns x, y, z in LPS; inside it is another network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 1, 4, 3, 2).flip((-1, -2))
        return self.network(x).flip((-1, -2)).permute(0, 1, 4, 3, 2)


def test_axes_and_orientation_are_those_that_it_was_trained_with(tmp_path: Path) -> None:
    image = random_image((14, 12, 10))
    plain = settings_of(traced(Asymmetric(), tmp_path / "plain.pt", EXAMPLE))
    program = traced(Turned(Asymmetric()), tmp_path / "turned.pt", EXAMPLE)
    wrong = load_weights(settings_of(program))
    other = load_weights(settings_of(program, axes="xyz", orientation="LPS"))
    ours, theirs, not_ours = (
        Predictor(*one).predict(image).mean() for one in (load_weights(plain), other, wrong)
    )
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    assert not torch.allclose(not_ours, ours, atol=0.1)


class OneChannel(nn.Module):
    def __init__(self, *, sigmoid: bool) -> None:
        super().__init__()
        self.network, self.sigmoid = Asymmetric(n_classes=1), sigmoid

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.network(x)
        return {"out": y.sigmoid() if self.sigmoid else y}


@pytest.mark.parametrize("values", ["logits", "probabilities"])
def test_one_channel_is_the_sigmoid_of_the_second_class(tmp_path: Path, values: str) -> None:
    network = OneChannel(sigmoid=values == "probabilities")
    settings = settings_of(
        traced(network, tmp_path / "one.pt", EXAMPLE),
        classes=["background", "lesion"],
        outputs={"channels": 1, "values": values},
    )
    loaded, _ = load_weights(settings)
    with torch.no_grad():
        logit = network.network(EXAMPLE)[:, 0]
        mean = loaded(EXAMPLE).mean
    torch.testing.assert_close(mean[:, 1] - mean[:, 0], logit, rtol=0, atol=1e-4)


class Authors(nn.Module):
    """Returns what the authors' SSN computes: log-diagonal, and a flat factor."""

    def __init__(self, *, by_rank: bool) -> None:
        super().__init__()
        self.mean, self.spread = Asymmetric(n_classes=2), Asymmetric(n_classes=2 + 6)
        self.by_rank = by_rank

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spread = self.spread(x)
        factor = spread[:, 2:]
        if not self.by_rank:
            factor = factor.unflatten(1, (3, 2)).transpose(1, 2)
        return self.mean(x), factor, spread[:, :2]


@pytest.mark.parametrize("order", ["rank_class", "class_rank"])
def test_layouts_of_factor_and_diagonal(tmp_path: Path, order: str) -> None:
    network = Authors(by_rank=order == "rank_class")
    program = traced(network, tmp_path / "ssn.pt", EXAMPLE)
    outputs = {
        "diagonal": 2, "factor": 1, "diagonal_is": "log_variance", "factor_order": order,
    }  # fmt: skip
    settings = settings_of(
        program, classes=["background", "lesion"], head="ssn", rank=3, outputs=outputs
    )
    found = load_weights(settings)[0](EXAMPLE)
    with torch.no_grad():
        spread = network.spread(EXAMPLE)
    assert found.factor is not None
    torch.testing.assert_close(found.factor, spread[:, 2:].unflatten(1, (3, 2)))
    torch.testing.assert_close(found.diagonal, spread[:, :2].exp() + 1e-5)


def test_the_range_of_intensities_is_its_own(tmp_path: Path) -> None:
    program = traced(nn.Identity(), tmp_path / "same.pt", torch.rand(1, 2, 8, 8, 8))
    settings = settings_of(
        program,
        channels=["CT", "PET"],
        classes=["background", "one"],
        intensity={"kind": "window", "low": -100.0, "high": 300.0, "span": [-100.0, 300.0]},
    )
    data = np.full((2, 8, 8, 8), 50, np.float32)
    data[1] = 1000
    found = Predictor(*load_weights(settings)).predict(Image.from_array(data, channel_axis=0))
    torch.testing.assert_close(found.mean()[:, 0, 0, 0], torch.tensor([50.0, 300.0]))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return traced(Asymmetric(), tmp_path / "net.pt", EXAMPLE)


def imported(program: Path) -> Path:
    out = program.with_name("imported.safetensors")
    assert main(["import", str(program), "--out", str(out)]) == 0
    return out


def test_an_imported_program_is_one_file_with_the_hash_of_both(program: Path) -> None:
    settings = settings_of(program)
    out = imported(program)
    assert weights_hash(settings) == hashlib.sha256(out.read_bytes()).hexdigest()
    assert read_spec(out) == read_spec(settings)
    before = weights_hash(settings)
    settings_of(program, overlap=0.25)
    assert weights_hash(settings) != before


def test_prediction_and_its_recipe_take_either_form(program: Path, tmp_path: Path) -> None:
    settings = settings_of(program)
    out = imported(program)
    image = save(tmp_path / "T1.nii.gz", blob(*SHAPE), OBLIQUE)
    results = tmp_path / "one", tmp_path / "two"
    for folder, model in zip(results, (settings, out), strict=True):
        arguments = [str(image), "--model", str(model), "--out", str(folder), "--samples", "1"]
        assert main(["predict", *arguments, "--device", "cpu"]) == 0
    recipes = [json.loads((one / "recipe.json").read_text()) for one in results]
    assert recipes[0]["model"]["sha256"] == recipes[1]["model"]["sha256"]
    assert recipes[0]["outputs"] == recipes[1]["outputs"]
    labels = voxels(results[0] / "mean.nii.gz")
    assert len(np.unique(labels)) > 1
    # Another program behind the same settings is another model.
    network = Asymmetric()
    with torch.no_grad():
        network.second.bias += 0.1
    traced(network, program, EXAMPLE)
    again = ["--recipe", str(results[0] / "recipe.json"), "--out", str(tmp_path / "three")]
    assert main(["predict", str(image), "--model", str(settings), *again]) == 2


def test_info_tells_what_it_is(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(settings_of(program))]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "TorchScript program" in said
    assert "U-Net" not in said


def test_import_says_which_lines_are_missing(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(program)]) == 2
    said = capsys.readouterr().err
    for line in ('name = "net"', "dimensions = 3", 'channels = ["T1"]', "[intensity]"):
        assert line in said
    settings = program.with_suffix(".toml")
    settings.write_text('dimensions = 3\nchannels = ["T1"]\npatch = [8, 8, 8]\n')
    assert main(["import", str(program)]) == 2
    said = capsys.readouterr().err
    # What the program returned for zeros.
    assert 'classes = ["background", "class 1", "class 2"]' in said
    assert "dimensions" not in said


def test_lines_that_were_asked_for_are_enough(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = program.with_suffix(".toml")
    settings.write_text('dimensions = 3\nchannels = ["T1"]\npatch = [8, 8, 8]\n')
    assert main(["import", str(program)]) == 2
    lines = [one for one in capsys.readouterr().err.splitlines() if one.startswith("  ")]
    settings.write_text(settings.read_text() + "\n".join(lines))
    assert main(["import", str(program), "--out", str(program.with_name("m.safetensors"))]) == 0
    assert read_spec(program.with_name("m.safetensors")).n_classes == 3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": ["background", "one"]}, "returns 3 channels"),
        ({"channels": ["T1", "T2"]}, "fails on an input"),
        ({"head": "ssn"}, "rank"),
        ({"head": "ssn", "rank": 2}, "no diagonal that fits"),
        ({"patch": [8, 8]}, "needs 3 sizes"),
        ({"intensity": {"kind": "zscore", "span": [-1, 1]}}, "leave out span"),
        ({"sizes": "anything"}, "patch"),
        ({"outputs": {"mean": "seg"}}, "no mean that fits"),
        ({"divisor": 3}, "multiple of the divisor"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    program: Path, fields: dict[str, object], says: str
) -> None:
    table = read_settings_table(settings_of(program, **fields))
    with pytest.raises((ConfigError, WeightsError), match=says):
        check_program(program, table)


def test_a_program_lies_beside_its_settings(program: Path, tmp_path: Path) -> None:
    settings = settings_of(program)
    settings.write_text(settings.read_text().replace('"net.pt"', '"../net.pt"'))
    with pytest.raises(ConfigError, match="same folder"):
        read_spec(settings)


class Fixed(nn.Module):
    """Takes one size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Asymmetric()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + torch.zeros(8, 8, 8)


def test_a_program_of_one_size_is_not_said_to_take_others(tmp_path: Path) -> None:
    program = traced(Fixed(), tmp_path / "fixed.pt", EXAMPLE)
    table = read_settings_table(settings_of(program, sizes="multiple"))
    with pytest.raises(ConfigError, match="sizes = 'patch'"):
        check_program(program, table)
    # On any image it is shown its own size.
    network, spec = load_weights(settings_of(program))
    for shape in ((14, 12, 10), (5, 5, 5)):
        assert Predictor(network, spec).predict(random_image(shape)).spatial_shape == shape


def rewritten(program: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The same archive with other members."""
    out = program.with_name("other.pt")
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out


@pytest.mark.parametrize(
    "line",
    [
        'torch.save(x, "{}")',
        'ops.aten.save(x, "{}")',
        '_9 = torch.from_file("{}", True, 100)',
        'getattr(x, "save")',
        "t = torch.classes.other.Thing()",
        "t = __torch__.torch.classes.other.Thing()",
        "ops.c10d.barrier(x)",
        "import os",
    ],
)
def test_code_that_reaches_out_is_refused_before_it_is_compiled(
    program: Path, line: str, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(".py") or b"def forward" not in content:
            return content
        text = content.decode()
        at = text.index("-> Tensor:\n") + len("-> Tensor:\n")
        return (text[:at] + f"    {line.format(victim)}\n" + text[at:]).encode()

    other = rewritten(program, change)
    settings = settings_of(other)
    network, _ = load_weights(settings)
    with pytest.raises(WeightsError, match="outside the program"):
        network(EXAMPLE)
    assert not victim.exists()


def test_tensors_are_no_larger_than_their_numbers(program: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content[:-4] if name.endswith("data/0") else content

    network, _ = load_weights(settings_of(rewritten(program, change)))
    with pytest.raises(WeightsError, match="does not fit the numbers"):
        network(EXAMPLE)


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    network = Asymmetric()
    torch.save(network, tmp_path / "module.pt")
    torch.save(network.state_dict(), tmp_path / "state.pt")
    torch.save(network.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("module.pt", "state.pt", "old.pt"):
        with pytest.raises(WeightsError, match=r"torch\.jit\.trace"):
            read_spec(settings_of(tmp_path / name))
    with pytest.raises(WeightsError, match="structseg import"):
        read_spec(tmp_path / "state.pt")


def test_archives_that_would_grow_are_refused(program: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("net/constants.pkl", b"")
        file.writestr("net/code/large.py", bytes(1 << 27))
    program.write_bytes(buffer.getvalue())
    with pytest.raises((WeightsError, MemoryLimitError), match="MB"):
        read_spec(settings_of(program))


def test_damaged_archives_are_refused(program: Path) -> None:
    content = program.read_bytes()
    settings = settings_of(program)
    for damaged in (content[: len(content) // 2], content[:4], b"", b"PK\x03\x04" + bytes(100)):
        program.write_bytes(damaged)
        with pytest.raises(WeightsError):
            read_spec(settings)
    at = content.index(b"def forward") if b"def forward" in content else len(content) // 3
    program.write_bytes(content[:at] + b"\0\0\0\0" + content[at + 4 :])
    with pytest.raises(WeightsError, match="damaged"):
        read_spec(settings)


class Branching(nn.Module):
    """What exported graphs hold: normalisation, sizes that are computed, several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.down, self.last = nn.Conv3d(4, 4, 2, stride=2), nn.Conv3d(8, 6, 1)
        self.register_buffer("shift", torch.arange(3.0).reshape(1, 3, 1, 1, 1))
        self.constant = torch.full((1, 3, 1, 1, 1), 0.5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = nn.functional.instance_norm(self.norm(self.first(x))).relu()
        z = nn.functional.interpolate(self.down(y), size=x.shape[2:], mode="trilinear")
        mean, spread = self.last(torch.cat([y, z], dim=1)).split(3, dim=1)
        zeros = torch.zeros(x.shape[2:], device=x.device)
        return {"mean": mean + zeros + self.shift * self.constant, "diagonal": spread.exp()}


@pytest.fixture(scope="module")
def branching() -> Branching:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Branching()
        network(torch.rand(2, 1, 8, 8, 8))
    return network.eval()


@pytest.fixture(scope="module")
def exported(branching: Branching, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One program for all tests: exporting takes seconds."""
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    size = 2 * torch.export.Dim("half", min=2, max=100)
    program = torch.export.export(
        branching, (torch.rand(1, 1, 8, 8, 8),), dynamic_shapes={"x": {2: size}}
    )
    torch.export.save(program, path)
    return path


@pytest.fixture
def graph(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported, tmp_path / "net.pt2"))


def test_an_exported_program_gives_what_the_network_gives(
    graph: Path, branching: Branching
) -> None:
    settings = settings_of(graph, head="ssn", rank=0, sizes="multiple", divisor=2, epsilon=1e-30)
    network, spec = load_weights(settings)
    assert spec.program is not None
    assert spec.program.kind == "export"
    # A size that is not that of the example.
    x = torch.rand(1, 1, 12, 8, 8)
    with torch.no_grad():
        found, expected = network(x), branching(x)
    torch.testing.assert_close(found.mean, expected["mean"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.diagonal, expected["diagonal"], rtol=0, atol=1e-5)
    with pytest.raises(WeightsError, match="exported for an input of 1 x 1 x any x 8 x 8"):
        network(torch.rand(1, 1, 8, 10, 8))
    image = random_image((14, 8, 8))
    distribution = Predictor(network, spec).predict(image)
    assert distribution.mean().isfinite().all()


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same program with another graph."""

    def member(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        model = json.loads(content)
        change(model)
        return json.dumps(model).encode()

    return rewritten(path, member)


def nodes_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = model["graph_module"]["graph"]["nodes"]
    return nodes


def with_target(target: str) -> Callable[[dict[str, Any]], None]:
    return lambda model: nodes_of(model)[0].update(target=target)


def with_expression(model: dict[str, Any]) -> None:
    text = json.dumps(model)
    place = Path(tempfile.gettempdir()) / "victim"
    code = f"__import__('pathlib').Path({str(place)!r}).touch()"
    changed = json.loads(text.replace("Symbol('s", "Symbol('x"))
    changed["range_constraints"] = {code: {"min_val": 1, "max_val": 2}}
    changed["guards_code"] = [code]
    model.clear()
    model.update(changed)


@pytest.mark.parametrize(
    "target",
    [
        "torch.save", "torch.load", "torch.hub.load", "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default", "_operator.attrgetter", "math.prod", "os.system",
        "torch.ops.higher_order.cond", "torch.ops.aten.nothing.default", "torch.ops.aten.add",
        "torch.ops.aten.__init__.default", "torch.ops.load_library",
    ],
)  # fmt: skip
def test_a_graph_calls_operations_on_tensors_alone(graph: Path, target: str) -> None:
    network, _ = load_weights(settings_of(edited(graph, with_target(target)), **SSN))
    with pytest.raises(WeightsError, match="no operation on tensors"):
        network(EXAMPLE)


SSN = {"head": "ssn", "rank": 0}


def test_texts_of_a_graph_are_never_evaluated(graph: Path) -> None:
    place = Path(tempfile.gettempdir()) / "victim"
    place.unlink(missing_ok=True)
    network, _ = load_weights(settings_of(edited(graph, with_expression), **SSN))
    network(EXAMPLE)
    assert not place.exists()


def pickled(model_of: dict[str, Any]) -> None:
    for entry in model_of["config"].values():
        entry["use_pickle"] = True


def larger(model_of: dict[str, Any]) -> None:
    next(iter(model_of["config"].values()))["tensor_meta"]["sizes"][0]["as_int"] = 1 << 40


@pytest.mark.parametrize(("change", "says"), [(pickled, "pickle"), (larger, "does not fit")])
def test_weights_are_numbers_that_are_there(
    graph: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    def member(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return content
        found = json.loads(content)
        change(found)
        return json.dumps(found).encode()

    network, _ = load_weights(settings_of(rewritten(graph, member), **SSN))
    with pytest.raises(WeightsError, match=says):
        network(EXAMPLE)


def remove_nodes(model: dict[str, Any]) -> None:
    del nodes_of(model)[3:]


def other_version(model: dict[str, Any]) -> None:
    model["schema_version"]["major"] = 99


def two_inputs(model: dict[str, Any]) -> None:
    specs = model["graph_module"]["signature"]["input_specs"]
    specs.append(specs[-1])


@pytest.mark.parametrize("change", [remove_nodes, other_version, two_inputs, dict.clear])
def test_damaged_graphs_are_refused(graph: Path, change: Callable[[dict[str, Any]], None]) -> None:
    network, _ = load_weights(settings_of(edited(graph, change), **SSN))
    with pytest.raises(WeightsError):
        network(EXAMPLE)
