"""Model and result are seen one at a time, or both; the eyes of napari's list are the truth."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

from dock_helpers import correcting, dock, exploring  # noqa: F401 -- fixtures
from napari_structseg.session.messages import Show


def seen(made) -> set[str]:
    names = ("Segmentation", "Uncertainty", "Lines", "Result")
    layers = [layer for layer in made.viewer.layers if layer.name in names]
    return {layer.name for layer in layers if layer.visible}


def pressed(made) -> list[str]:
    return [side for side, button in made.correct.sides.buttons.items() if button.isChecked()]


def test_one_of_them_is_seen_at_a_time(correcting) -> None:
    row, viewer = correcting.correct.sides, correcting.viewer
    # Without a result there is nothing to choose.
    assert row.isHidden()
    correcting.correct.result.all_button.click()
    correcting.settle()
    assert not row.isHidden()
    assert (seen(correcting), pressed(correcting)) == ({"Segmentation", "Result"}, ["both"])
    row.buttons["result"].click()
    assert (seen(correcting), pressed(correcting)) == ({"Result"}, ["result"])
    # A slider that moves brings nothing back that was hidden.
    correcting.widget.strip.select(2)
    correcting.settle()
    assert seen(correcting) == {"Result"}
    row.buttons["model"].click()
    assert (seen(correcting), pressed(correcting)) == ({"Segmentation"}, ["model"])
    viewer.layers["Result"].visible = True
    assert pressed(correcting) == ["both"]
    viewer.layers["Segmentation"].visible = False
    assert pressed(correcting) == ["result"]
    viewer.layers["Result"].visible = False
    assert pressed(correcting) == []
    row.buttons["both"].click()
    assert (seen(correcting), pressed(correcting)) == ({"Segmentation", "Result"}, ["both"])
    # Whatever shows the model is what is hidden.
    correcting.widget.state.display.show = Show.ENTROPY
    correcting.settle()
    assert pressed(correcting) == ["both"]
    row.buttons["result"].click()
    assert seen(correcting) == {"Result"}
    row.buttons["model"].click()
    assert seen(correcting) == {"Uncertainty"}
    viewer.layers.remove("Result")
    assert row.isHidden()


def test_a_key_goes_from_one_to_the_other(correcting) -> None:
    window = correcting.widget.window()
    correcting.correct.result.all_button.click()
    correcting.settle()
    with correcting.qtbot.waitExposed(window):
        window.show()
    found = window.findChildren(QWidget)
    canvas = next(one for one in found if type(one).__name__ == "CanvasBackendDesktop")
    for layer in ("Result", "T1"):
        correcting.viewer.layers.selection.active = correcting.viewer.layers[layer]
        sides = []
        for _ in range(2):
            correcting.qtbot.keyClick(canvas, Qt.Key.Key_T, Qt.KeyboardModifier.ShiftModifier)
            sides += pressed(correcting)
        assert sides == ["result", "model"]
