"""Letters at the edges of the view, and planes of the body with the head upright."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from dock_helpers import dock  # noqa: F401 -- fixture
from napari_structseg import Image, read_image
from napari_structseg.reader import image_layers
from napari_structseg.widgets.panels.view_row import ViewRow
from napari_structseg.widgets.viewer.letters import OrientationLetters
from napari_structseg.widgets.viewer.orientation import Plane, edge_letters
from napari_structseg.widgets.viewer.viewing import image_of_layer

SHAPE = (9, 11, 13)
# The farthest voxel to the right, to the front and to the top, and its opposite.
SIDES = ("RL", "AP", "SI")
# Turned by 20 and 15 degrees: nearest axes stay the same.
OBLIQUE = np.array([[0.94, -0.34, 0], [0.33, 0.91, -0.26], [0.09, 0.24, 0.97]])


def add_file(viewer, path, codes: str, *, oblique: bool = False, codes_known: bool = True):
    """Show a file whose voxels are stored in some order, as napari would open it."""
    turn = np.eye(4)
    if oblique:
        turn[:3, :3] = OBLIQUE
    affine = turn @ inv_ornt_aff(axcodes2ornt(codes), SHAPE)
    file = nib.Nifti1Image(np.random.default_rng(0).random(SHAPE, np.float32), affine)
    if not codes_known:
        file.set_sform(None, code=0)
        file.set_qform(None, code=0)
    nib.save(file, path)
    ((data, settings, _),) = image_layers(read_image(path))
    return viewer.add_image(data, **settings)


def expected_letters(viewer, layer, affine) -> tuple[str, ...]:
    """Left, right, top and bottom, from where the outermost voxels of a file are drawn."""
    found = {}
    corners = np.array(list(product(*[(0, size - 1) for size in layer.data.shape])), float)
    world = np.array([layer.data_to_world(corner) for corner in corners])
    patient = corners @ affine[:3, :3].T
    down, right = viewer.dims.displayed
    _, vertical, horizontal = viewer.scene.camera.orientation
    for edge, axis, is_low in (
        ("left", right, horizontal == "right"),
        ("right", right, horizontal != "right"),
        ("top", down, vertical == "down"),
        ("bottom", down, vertical != "down"),
    ):
        at = world[:, axis].min() if is_low else world[:, axis].max()
        here = np.isclose(world[:, axis], at)
        towards = patient[here].mean(0) - patient[~here].mean(0)
        nearest = int(np.abs(towards).argmax())
        found[edge] = SIDES[nearest][int(towards[nearest] < 0)]
    return tuple(found[edge] for edge in ("left", "right", "top", "bottom"))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SAL", "AIL"])
@pytest.mark.parametrize("oblique", [False, True])
def test_letters_name_the_side_that_is_drawn_there(tmp_path, codes, oblique) -> None:
    viewer = ViewerModel()
    layer = add_file(viewer, tmp_path / "head.nii.gz", codes, oblique=oblique)
    affine = layer.metadata["structseg_image"].geometry.affine
    letters = OrientationLetters(viewer)
    letters.follow(layer)
    for order in permutations(range(3)):
        for vertical, horizontal in product(("down", "up"), ("right", "left")):
            viewer.dims.order = order
            viewer.scene.camera.orientation = ("towards", vertical, horizontal)
            shown = letters.texts
            assert tuple(shown.values()) == expected_letters(viewer, layer, affine)
            # Both ends of the same two axes of the body.
            for one, other in (("left", "right"), ("top", "bottom")):
                assert {shown[one], shown[other]} in [set(pair) for pair in SIDES]


def test_letters_are_radiological_for_the_axial_view(tmp_path) -> None:
    viewer = ViewerModel()
    layer = add_file(viewer, tmp_path / "head.nii.gz", "LAS")
    assert edge_letters(viewer, layer) == ("R", "L", "A", "P")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_letters_agree_with_what_is_saved_of_a_turned_layer(tmp_path, codes) -> None:
    viewer = ViewerModel()
    layer = add_file(viewer, tmp_path / "head.nii.gz", codes)
    letters = OrientationLetters(viewer)
    letters.follow(layer)
    turn = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    for affine in (turn, turn.T, np.diag((-1, 1, -1, 1))):
        layer.affine = affine
        for order in ((0, 1, 2), (0, 2, 1)):
            viewer.dims.order = order
            saved = image_of_layer(layer).geometry.affine
            assert tuple(letters.texts.values()) == expected_letters(viewer, layer, saved)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_no_letters_where_napari_draws_a_turned_layer_straight(tmp_path) -> None:
    viewer = ViewerModel()
    layer = add_file(viewer, tmp_path / "head.nii.gz", "RAS")
    letters = OrientationLetters(viewer)
    letters.follow(layer)
    layer.rotate = (0, 0, 30)
    assert letters.texts
    layer.rotate = (0, 30, 0)
    assert not letters.texts
    layer.rotate = (0, 0, 0)
    assert letters.texts


def test_no_letters_in_3d_nor_where_they_would_be_a_guess(tmp_path) -> None:
    viewer = ViewerModel()
    layer = add_file(viewer, tmp_path / "head.nii.gz", "RAS")
    letters = OrientationLetters(viewer)
    letters.follow(layer)
    assert letters.texts
    viewer.dims.ndisplay = 3
    assert not letters.texts
    viewer.dims.ndisplay = 2
    assert letters.texts
    letters.switch(False)
    assert not letters.texts
    letters.switch(True)
    for guess in (
        viewer.add_image(np.zeros(SHAPE)),
        add_file(viewer, tmp_path / "nothing.nii", "RAS", codes_known=False),
        *(
            viewer.add_image(data, **settings)
            for data, settings, _ in image_layers(
                Image.from_array(np.zeros(SHAPE, np.float32), spacing=(3, 1, 1))
            )
        ),
    ):
        letters.follow(guess)
        assert not letters.texts, guess.name
    letters.follow(layer)
    assert letters.texts
    # More axes than the volume has, and one of those in view.
    viewer.add_image(np.zeros((4, *SHAPE)))
    assert tuple(letters.texts.values()) == ("R", "L", "A", "P")
    viewer.dims.order = (1, 2, 0, 3)
    assert not letters.texts


def test_letters_are_in_screenshots_and_go_with_the_dock(make_napari_viewer, tmp_path) -> None:
    viewer = make_napari_viewer(show=True)
    row = ViewRow(viewer)
    viewer.window.add_dock_widget(row, name="View")
    layer = add_file(viewer, tmp_path / "head.nii.gz", "RAS")
    layer.visible = False
    own = viewer.canvas.overlays.text
    own.text, own.visible = "mine", True
    before = viewer.screenshot(flash=False)
    row.set_layer(layer)
    shown = viewer.screenshot(flash=False)
    height, width = shown.shape[:2]
    changed = (before != shown).any(-1)
    middle = slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3)
    for edge in (
        (middle[0], slice(0, width // 8)),
        (middle[0], slice(-width // 8, None)),
        (slice(0, height // 8), middle[1]),
        (slice(-height // 8, None), middle[1]),
    ):
        assert changed[edge].any()
    assert not changed[middle].any()
    assert len(viewer.layers) == 1
    row.disconnect_viewer()
    assert not any("structseg" in name for name in viewer.canvas.overlays)
    assert own.text == "mine"
    assert np.array_equal(viewer.screenshot(flash=False), before)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_planes_are_upright(qtbot, tmp_path, codes) -> None:
    viewer = ViewerModel()
    layer = add_file(viewer, tmp_path / "head.nii.gz", codes)
    row = ViewRow(viewer)
    qtbot.addWidget(row)
    row.set_layer(layer)
    viewer.dims.order = (1, 2, 0)  # napari's own roll: a coronal view that lies on its side
    assert row.letters.texts["top"] != "S"
    assert not any(button.isChecked() for button in row.buttons.values())
    viewer.dims.ndisplay = 3
    for plane, wanted in (
        (Plane.CORONAL, ("R", "L", "S", "I")),
        (Plane.SAGITTAL, ("A", "P", "S", "I")),
        (Plane.AXIAL, ("R", "L", "A", "P")),
    ):
        row.buttons[plane].click()
        assert tuple(row.letters.texts.values()) == wanted
        assert [one for one, button in row.buttons.items() if button.isChecked()] == [plane]


def test_the_view_turns_only_when_a_button_is_pressed(qtbot, tmp_path) -> None:
    viewer = ViewerModel()
    layer = add_file(viewer, tmp_path / "head.nii.gz", "RAS")
    viewer.dims.order = (2, 1, 0)
    row = ViewRow(viewer)
    qtbot.addWidget(row)
    row.set_layer(layer)
    assert tuple(viewer.dims.order) == (2, 1, 0)
    row.buttons[Plane.CORONAL].click()
    row.buttons[Plane.CORONAL].click()
    assert row.buttons[Plane.CORONAL].isChecked()
    # A plain array has no head to put upright.
    row.set_layer(viewer.add_image(np.zeros(SHAPE)))
    assert all(button.isHidden() for button in row.buttons.values())


def test_the_dock_shows_the_letters_of_its_image_until_it_is_closed(dock, tmp_path) -> None:
    layer = add_file(dock.viewer, tmp_path / "head.nii.gz", "RAS")
    row = dock.widget.view_row
    assert tuple(row.letters.texts.values()) == ("R", "L", "A", "P")
    row.letters_button.click()
    assert not row.letters.texts
    row.letters_button.click()
    other = dock.viewer.add_image(np.zeros(SHAPE))
    dock.widget.source.choose_image(other)
    assert not row.letters.texts
    dock.widget.source.choose_image(layer)
    assert row.letters.texts
    dock.widget.shut_down()
    assert not any("structseg" in name for name in dock.viewer.canvas.overlays)
