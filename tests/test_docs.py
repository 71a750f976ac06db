"""What the pages show works: Python runs, and commands of the terminal are understood or run.

The Python of a page is one session, in a folder with the files that the page speaks of. Names of
shipped models stand for tiny ones with the same classes.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.io import imsave

from conftest import REPOSITORY
from dicom_files import make_series, save_series
from napari_structseg import Image, PointLogits
from napari_structseg.cli import app, main
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.models import ClassSpec, HeadSpec, IntensitySpec
from napari_structseg.priors import PriorSpec
from nifti_files import save
from other_programs import write_v2
from program_helpers import traced
from stacks import TRAINING, write_stack
from tiny_models import tiny_model

PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in (
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "src").rglob("*.md"),
    )
)
# Run from beginning to end by test_tutorials.py.
TUTORIALS = [page for page in PAGES if page.startswith("docs/tutorials/")]
# Opens a window, takes minutes, or trains for hours: only the options are checked.
ONLY_PARSED = ("bench", "demo", "finetune", "train", "versions")


def blocks(page: str, *languages: str) -> list[str]:
    """What a page shows in these languages."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language in languages]


def commands(page: str) -> Iterator[list[str]]:
    """The commands of a page for a terminal, word by word."""
    for block in blocks(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def structseg_commands(page: str) -> Iterator[list[str]]:
    """Those of our own program, without its name."""
    for words in commands(page):
        starts = [at for at, word in enumerate(words) if word.endswith("structseg")]
        if starts:
            yield words[starts[0] + 1 :]


def with_files(folder: Path) -> None:
    """Tiny files with the names that the pages use."""
    rng = np.random.default_rng(0)
    shape = (20, 18, 12)
    for name in ("T1.nii.gz", "FLAIR.nii.gz"):
        save(folder / name, rng.integers(1, 200, shape, dtype=np.int16))
    save(folder / "CT.nii.gz", np.zeros((170, 280, 120), np.int16))
    maps = rng.dirichlet(np.ones(4), shape).astype(np.float32)
    for name in ("probabilities.nii.gz", "tissues.nii.gz"):
        save(folder / name, maps)
    said = np.zeros(shape, np.uint8)
    said[9:12, 9, 6] = 3
    save(folder / "strokes.nii.gz", said)
    object_map = rng.random(shape).astype(np.float32)
    save(folder / "c0.nii.gz", 1 - object_map)
    save(folder / "c1.nii.gz", object_map)
    (folder / "scans").mkdir()
    for name in ("one", "two"):
        save(folder / "scans" / f"{name}.nii.gz", rng.integers(1, 200, shape, dtype=np.int16))
    voxels = rng.integers(1, 200, (12, 18, 20)).astype(np.uint16)
    save_series(folder / "CT-series", make_series(voxels))
    tiny_model(folder / "brain-tissue.safetensors", prior=PriorSpec())
    tiny_model(folder / "my-unet.safetensors")
    tiny_model(folder / "two-channels.safetensors", channels=2)
    classes = (
        ClassSpec(name="background", color="#000000"),
        ClassSpec(name="nodule", color="#ff0000"),
    )
    lung = {"dimensions": 2, "classes": classes}
    window = IntensitySpec(kind="window", low=0, high=255)
    tiny_model(folder / "lung-nodule.safetensors", intensity=window, **lung)
    for name in ("a", "b", "ssn", "prob-unet"):
        tiny_model(folder / f"{name}.safetensors", **lung)
    for name in ("DATASET", "Dataset001_Hippocampus", "Dataset002_Lung"):
        write_stack(folder / name)
    (folder / "hippocampus.toml").write_text(TRAINING.replace("tiny", "hippocampus"))


def with_tiny_models(text: str) -> str:
    return re.sub(r"^(brain-tissue|lung-nodule)$", r"\1.safetensors", text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given_nothing() -> dict[str, object]:
    return {}


def given_a_distribution() -> dict[str, object]:
    """What docs/hypotheses.md takes as given."""
    image = Image.from_array(np.zeros((6, 8, 8), np.float32))
    return {"image": image, "distribution": PointLogits(torch.rand(3, 6, 8, 8))}


def given_a_network() -> dict[str, torch.nn.Module]:
    """What docs/your-own-network.md takes as given."""
    return {"network": torch.nn.Conv3d(1, 3, 3, padding=1)}


def with_a_program(folder: Path) -> None:
    """The program that docs/your-own-network.md describes, and the settings that it shows."""
    traced(given_a_network()["network"], folder / "liver.pt", torch.zeros(1, 1, 8, 8, 8))
    (settings,) = blocks("docs/your-own-network.md", "toml")
    (folder / "liver.toml").write_text(settings)


def with_other_programs(folder: Path) -> None:
    """The predictions that docs/other-programs.md speaks of."""
    rng = np.random.default_rng(2)
    for number in range(3):
        maps = rng.dirichlet(np.ones(3), (20, 18, 12)).astype(np.float32)
        save(folder / f"run-{number + 1}.nii.gz", maps.argmax(axis=-1).astype(np.uint8))
        if number < 2:
            write_v2(folder / "folds" / f"fold_{number}", maps, "T1", np.eye(4))
            (folder / "nnunet" / f"fold_{number}").mkdir(parents=True)
            for case in Cohort(folder / "DATASET", Selection()).cases:
                labels = rng.integers(0, 2, (12, 12), dtype=np.uint8)
                imsave(
                    folder / "nnunet" / f"fold_{number}" / f"{case.name}.png",
                    labels,
                    check_contrast=False,
                )
    tiny_model(folder / "deterministic.safetensors", head=HeadSpec(kind="point"))


# Each page with Python, and the names that its session begins with.
SESSIONS: dict[str, Callable[[], Mapping[str, object]]] = {
    "README.md": given_nothing,
    "docs/cohorts.md": given_nothing,
    "docs/graph-cuts.md": given_nothing,
    "docs/hypotheses.md": given_a_distribution,
    "docs/measuring.md": given_a_distribution,
    "docs/other-programs.md": given_nothing,
    "docs/python-api.md": given_nothing,
    "docs/training.md": given_nothing,
    "docs/two-dimensional-models.md": given_nothing,
    "docs/your-own-network.md": given_a_network,
}


def test_every_page_with_python_has_a_session() -> None:
    with_python = {page for page in PAGES if blocks(page, "python")}
    # That of the explorer needs a viewer: test_widget_explorer.py runs it.
    assert with_python - {*TUTORIALS} == {*SESSIONS, "docs/explorer.md"}


# torch prefers torch.export, but most networks that people have are traced.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("page", SESSIONS)
def test_python_runs(page: str, folder: Path) -> None:
    with_files(folder)
    if page == "docs/other-programs.md":
        with_other_programs(folder)
    code = "\n".join(blocks(page, "python"))
    code = re.sub(r'"(brain-tissue|lung-nodule)"', r'"\1.safetensors"', code)
    exec(compile(code, page, "exec"), dict(SESSIONS[page]()))


def shown_commands(page: str) -> Iterator[list[str]]:
    """Those that stand as text, since they need a cluster, a hospital or a GPU."""
    for block in blocks(page, "text"):
        for line in block.replace("\\\n", " ").splitlines():
            # Two spaces: a list of commands with what each does.
            if re.match(r"structseg \w+(?: \S|$)", line):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(page: str) -> None:
    for words in (*structseg_commands(page), *shown_commands(page)):
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert bound.arguments or command.__name__ == "demo"


def executed(page: str) -> list[list[str]]:
    return [words for words in structseg_commands(page) if words[0] not in ONLY_PARSED]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if executed(page) and page not in TUTORIALS]
)
def test_commands_run(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_files(folder)
    if page == "docs/your-own-network.md":
        with_a_program(folder)
    if page == "docs/other-programs.md":
        with_other_programs(folder)
    for number, words in enumerate(executed(page)):
        # What a page trains before, and the image for it.
        for at, word in enumerate(words):
            if word == "runs/hippocampus/best.safetensors":
                words[at] = "my-unet.safetensors"
            if word == "image.nii.gz":
                words[at] = "T1.nii.gz"
        if words[0] == "evaluate":
            words += ["--limit", "2", "--batch", "100"]
        if number and not {"--recipe", "--skip-existing"} & {*words} and "predict" in words:
            words.append("--overwrite")
        assert main([with_tiny_models(word) for word in words]) == 0, shlex.join(words)
    assert "Traceback" not in capsys.readouterr().err


def test_the_job_array_runs(folder: Path) -> None:
    with_files(folder)
    (script,) = blocks("docs/cohorts.md", "slurm")
    for number in (1, 2):
        command = script.replace("\\\n", " ").splitlines()[-1]
        for name, value in (("ID", number), ("COUNT", 2)):
            command = command.replace(f"$SLURM_ARRAY_TASK_{name}", str(value))
        words = [with_tiny_models(word) for word in shlex.split(command)]
        assert words[0] == "structseg"
        assert main(words[1:]) == 0
    rows = (folder / "results" / "volumes.csv").read_text().splitlines()
    assert {row.partition(",")[0] for row in rows[1:]} == {"one", "two"}


@pytest.mark.parametrize("page", PAGES)
def test_json_is_valid(page: str) -> None:
    for block in blocks(page, "json"):
        json.loads(block)


@pytest.mark.parametrize("page", PAGES)
def test_scripts_and_targets_exist(page: str) -> None:
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for words in commands(page):
        if "make" in words:
            asked = [word for word in words[words.index("make") + 1 :] if "=" not in word]
            assert set(asked) <= set(targets)
        if words[0] == "python":
            if f'title="{words[1]}"' in (REPOSITORY / page).read_text(encoding="utf-8"):
                continue  # the page shows the script, and its own test runs it
            script = (REPOSITORY / words[1]).read_text(encoding="utf-8")
            options = [word for word in words[2:] if word.startswith("--")]
            assert [one for one in options if f'"{one}"' not in script] == []
