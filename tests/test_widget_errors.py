from __future__ import annotations

import numpy as np
import pytest

from dock_helpers import SHAPE, brain, dock, exploring  # noqa: F401 -- fixtures


def refused(dock) -> str:
    dock.run()
    message = dock.widget.banner.message
    assert message
    assert not dock.widget.banner.isHidden()
    return message


def test_a_model_for_other_channels(dock) -> None:
    dock.add_image(name="T1")
    dock.choose(channels=2)
    assert "expects 2 channels" in refused(dock)
    assert not dock.widget.is_exploring()
    assert [layer.name for layer in dock.viewer.layers] == ["T1"]
    dock.widget.banner.dismiss_button.click()
    assert dock.widget.banner.isHidden()
    assert not dock.widget.banner.message


def test_what_is_said_pushes_nothing(dock) -> None:
    dock.add_image(name="T1")
    widget = dock.widget
    widget.resize(396, 680)

    def places() -> list[int]:
        widget.layout().activate()
        return [one.mapTo(widget, one.rect().topLeft()).y() for one in (widget.source, *sections)]

    sections = [widget.welcome, *widget.sections]
    before = places()
    message = "Something was expected, but something else came, and this is what to do. " * 3
    for banner in (widget.banner, widget.domain_banner):
        banner.show_error(message)
        assert places() == before
        assert banner.width() <= widget.width()
        assert banner.label.heightForWidth(banner.label.width()) <= banner.label.height()
        assert banner.mapTo(widget, banner.rect().bottomLeft()).y() < widget.status.y()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 a zipped pickle", "pickled or zipped"),
        (b"nonsense that is no model", "not a safetensors file"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{ truncated", "truncated"),
    ],
)
def test_a_broken_model_file(dock, content, says) -> None:
    dock.add_image()
    path = dock.folder / "broken.safetensors"
    path.write_bytes(content)
    dock.widget.source.choose_model(path)
    assert says in refused(dock)


def test_a_missing_model_file(dock) -> None:
    dock.add_image()
    dock.widget.source.choose_model(dock.folder / "gone.safetensors")
    assert "no model" in refused(dock)


def test_an_rgb_picture(dock) -> None:
    dock.add_image(np.zeros((20, 20, 3), np.uint8), name="photo", rgb=True)
    dock.choose()
    assert "RGB" in refused(dock)


def test_a_multiscale_image(dock) -> None:
    dock.add_image([brain(), brain()[::2, ::2, ::2]], name="pyramid", multiscale=True)
    dock.choose()
    assert "resolutions" in refused(dock)


def test_a_slice_for_a_model_of_volumes(dock) -> None:
    dock.add_image(brain()[0], name="T1")
    dock.choose()
    assert "3-D" in refused(dock)


def test_numbers_that_are_none(dock) -> None:
    data = brain()
    data[0, 5, 5] = np.nan
    dock.add_image(data)
    dock.choose()
    assert "NaN" in refused(dock)


def test_too_many_axes(dock) -> None:
    dock.add_image(np.zeros((2, *SHAPE), np.float32), name="movie")
    dock.choose()
    assert "spatial axes" in refused(dock)


def test_the_last_good_result_stays(exploring) -> None:
    exploring.widget.strip.select(2)
    exploring.settle()
    before = exploring.labels.copy()
    path = exploring.folder / "broken.safetensors"
    path.write_bytes(b"nonsense that is no model")
    exploring.widget.source.choose_model(path)
    assert refused(exploring)
    assert exploring.widget.is_exploring()
    assert np.array_equal(exploring.labels, before)
    exploring.widget.spread.temperature_slider.slider.setValue(2.5)
    exploring.settle()
    assert not np.array_equal(exploring.labels, before)
    # The message stays until it is dismissed, or the next run.
    assert exploring.widget.banner.message
    exploring.choose()
    exploring.run()
    assert not exploring.widget.banner.message
