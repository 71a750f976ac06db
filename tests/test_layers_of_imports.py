"""Imports run one way, and what the menus of napari need loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_structseg

ROOT = Path(napari_structseg.__file__).parent
PACKAGE = "napari_structseg"
DOCKS = {
    f"{PACKAGE}.widgets.{name}" for name in ("explore", "correct", "measure_dock", "finetune_dock")
}
COMMANDS = PluginManifest.from_file(ROOT / "napari.yaml").contributions.commands

# From the ground up. A module imports from lower layers, and from its own package.
LAYERS = (
    ("errors",),
    ("affines", "source_files"),
    ("devices", "geometry", "interrupts", "memory", "screen"),
    ("image",),
    ("io",),
    ("distributions", "layer_geometry", "priors", "workers"),
    ("models", "reader"),
    ("controls", "io.weights", "sample_data", "writer"),
    ("evaluation", "imports", "named_controls", "render"),
    ("refine",),
    ("exports", "prediction"),
    ("data", "results"),
    ("correction", "many"),
    ("session", "training"),
    ("finetuning",),
    ("widgets",),
    ("bench", "cohort", "testing"),
    ("calibration", "demo"),
    ("commands",),
    ("cli",),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
PURE = (
    "controls",
    "data",
    "distributions",
    "priors",
    "models",
    "io",
    "evaluation",
    "exports",
    "imports",
    "prediction",
    "refine",
    "render",
    "results",
    "correction",
    "many",
    "workers",
    "session",
    "finetuning",
    "cohort",
    "calibration",
)
WINDOWED = {"magicgui", "napari", "pyqtgraph", "qtpy", "superqt", "vispy"}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")
}


def part_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    # Weights are files like any other, but what they hold is a model.
    return module if module in LEVELS else module.partition(".")[0]


def imports_of(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            # "from package import module" names a module too.
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


# The package itself only says where its public names are.
@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_imports_run_one_way(module: str) -> None:
    own = part_of(module)
    inside = {
        name.removeprefix(f"{PACKAGE}.")
        for name in imports_of(MODULES[module])
        if name.startswith(f"{PACKAGE}.")
    }
    named = {part_of(name) for name in inside if name in MODULES or f"{name}.__init__" in MODULES}
    upwards = {name for name in named - {own} if LEVELS[name] >= LEVELS[own]}
    assert not upwards, f"{module} imports from {sorted(upwards)}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_nothing_below_the_widgets_names_qt_or_napari(module: str) -> None:
    if LEVELS[part_of(module)] >= LEVELS["widgets"]:
        pytest.skip("may use Qt and napari")
    outside = {name.partition(".")[0] for name in imports_of(MODULES[module])}
    assert not outside & WINDOWED


def test_no_imports_run_in_a_circle() -> None:
    names = {module.removesuffix(".__init__"): path for module, path in MODULES.items()}
    inside = {
        name: {
            one.removeprefix(f"{PACKAGE}.")
            for one in imports_of(path)
            if one.startswith(f"{PACKAGE}.") and one.removeprefix(f"{PACKAGE}.") in names
        }
        - {name}
        for name, path in names.items()
    }
    # It raises a CycleError that names the circle.
    order = tuple(TopologicalSorter(inside).static_order())
    assert set(order) == set(names)


def loaded_after(statement: str) -> set[str]:
    """What a new interpreter has loaded after one statement, by top-level name."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.split())


@pytest.mark.parametrize("package", PURE)
def test_a_package_below_the_widgets_loads_no_window(package: str) -> None:
    modules = [name for name in MODULES if part_of(name) == package]
    statement = "import " + ", ".join(
        f"{PACKAGE}.{name}".removesuffix(".__init__") for name in sorted(modules)
    )
    assert not loaded_after(statement) & WINDOWED


# The docks themselves compute; test_packaging shows that menus do not load it.
@pytest.mark.parametrize(
    "module",
    sorted({command.python_name.partition(":")[0] for command in COMMANDS} - DOCKS),
)
def test_opening_and_saving_files_loads_no_torch(module: str) -> None:
    assert "torch" not in loaded_after(f"import {module}")


def test_the_package_alone_loads_almost_nothing() -> None:
    loaded = loaded_after(f"import {PACKAGE}")
    assert not loaded & {"torch", "numpy", "nibabel", "pydantic", *WINDOWED}
