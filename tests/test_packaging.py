from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points, metadata, requires
from pathlib import Path

import pytest
from npe2 import PluginManifest
from packaging.requirements import Requirement

import napari_structseg

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = Path(napari_structseg.__file__).parent
DISTRIBUTION = "napari-structseg"
MANIFEST = PluginManifest.from_file(PACKAGE / "napari.yaml")
CONTRIBUTIONS = MANIFEST.contributions

# Where a person comes in; these may load Qt and napari.
DOORS = ("bench", "cli", "commands", "demo", "widgets")


def run_in_fresh_interpreter(code: str) -> str:
    """Run `code` in a new Python, so that what other tests imported does not count."""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_entry_point_leads_to_the_manifest() -> None:
    (entry_point,) = (
        entry
        for entry in entry_points(group="napari.manifest")
        if entry.dist is not None and entry.dist.name == DISTRIBUTION
    )
    assert entry_point.value == "napari_structseg:napari.yaml"
    assert PluginManifest.from_distribution(DISTRIBUTION).contributions == CONTRIBUTIONS


def test_manifest_at_the_top_is_a_relative_link_to_the_packaged_one() -> None:
    link = REPOSITORY / "napari.yaml"
    assert link.readlink() == Path("src/napari_structseg/napari.yaml")
    assert link.resolve() == REPOSITORY / "src" / "napari_structseg" / "napari.yaml"


@pytest.mark.parametrize("command", CONTRIBUTIONS.commands, ids=lambda command: command.id)
def test_command_leads_to_something_callable(command) -> None:
    module, _, name = command.python_name.partition(":")
    assert callable(getattr(import_module(module), name))


def test_contributions_name_declared_commands() -> None:
    declared = {command.id for command in CONTRIBUTIONS.commands}
    menu_items = [item for items in CONTRIBUTIONS.menus.values() for item in items]
    used = {
        contribution.command
        for contribution in (
            *CONTRIBUTIONS.readers,
            *CONTRIBUTIONS.writers,
            *CONTRIBUTIONS.widgets,
            *CONTRIBUTIONS.sample_data,
            *menu_items,
        )
    }
    assert used == declared


def test_menus_are_ones_that_napari_opens_to_plugins() -> None:
    from napari._app_model.constants._menus import is_menu_contributable

    assert all(is_menu_contributable(menu) for menu in CONTRIBUTIONS.menus)


def test_listing_widgets_and_menus_does_not_import_torch() -> None:
    code = f"""
import sys
from npe2 import PluginManager

manager = PluginManager.instance()
manager.discover()
widgets = [w.display_name for w in manager.iter_widgets() if w.plugin_name == "{DISTRIBUTION}"]
items = [item.command for menu in manager.menus() for item in manager.iter_menu(menu)]
print(*widgets, "torch" in sys.modules, "{DISTRIBUTION}.explore" in items, sep="|")
"""
    names = (
        "Explore segmentations|Correct the segmentation|Measure the segmentation"
        "|Fine-tune the model"
    )
    assert run_in_fresh_interpreter(code).strip() == f"{names}|False|True"


def test_nothing_below_the_doors_imports_qt_or_napari() -> None:
    code = f"""
import importlib, pkgutil, sys
import napari_structseg

def walk(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name.removeprefix("napari_structseg.") in {DOORS}:
            continue
        imported = importlib.import_module(module.name)
        if module.ispkg:
            walk(imported)

walk(napari_structseg)
print(*{{"magicgui", "napari", "qtpy", "superqt", "pyqtgraph"}} & set(sys.modules))
"""
    assert run_in_fresh_interpreter(code).strip() == ""


def test_base_dependencies_bring_no_qt_binding() -> None:
    requirements = [Requirement(line) for line in requires(DISTRIBUTION) or []]
    base = {r.name.lower() for r in requirements if r.marker is None}
    assert "napari" in base
    assert not base & {"pyqt5", "pyqt6", "pyside2", "pyside6"}
    napari = next(r for r in requirements if r.name == "napari" and r.marker is None)
    assert not napari.extras


def test_metadata_says_what_the_plugin_hub_reads() -> None:
    described = metadata(DISTRIBUTION)
    assert described["License-Expression"] == "BSD-3-Clause"
    assert "Framework :: napari" in described.get_all("Classifier", [])


def test_type_marker_is_packaged() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_reading_weights_does_not_load_the_compiler_of_torch() -> None:
    """It takes seconds, and beside a window's OpenGL it ended the program (torch 2.15)."""
    program = (
        "import sys, torch\n"
        "from napari_structseg import load_model\n"
        "before = 'torch._dynamo' in sys.modules\n"
        "load_model('lung-nodule')\n"
        "load_model('brain-tissue')\n"
        "sys.exit(not before and 'torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
