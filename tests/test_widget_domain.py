"""An image that the model was not made for: what the dock says, and that it is said first."""

from __future__ import annotations

import csv
import json

import pytest

import napari_structseg as ss
from dock_helpers import dock  # noqa: F401 -- a fixture
from napari_structseg.models import DomainSpec, SeenSpec
from napari_structseg.session.messages import ClassVolumes
from napari_structseg.widgets.sessions import session_of
from tiny_models import tiny_model

SMALL = SeenSpec(name="volume", of="CSF", unit="mL", seen=(0.001, 0.002), low=0.0005, high=0.003)
ANY = SeenSpec(name="entropy", unit="nats", seen=(0.0, 1.0), high=2.0)
WRONG = "is outside what the model 'tiny' was made for: CSF "


def domain(*statistics: SeenSpec) -> DomainSpec:
    return DomainSpec(statistics=statistics, cases=8)


@pytest.fixture
def outside(dock):
    """The dock after a run on an image with far more CSF than the model has seen."""
    dock.add_image(name="T1", scale=(2, 1, 1), units=("mm",) * 3)
    dock.choose(domain=domain(SMALL, ANY))
    dock.run()
    assert dock.widget.is_exploring(), dock.widget.banner.message
    return dock


def test_it_is_said_before_any_volume_is_shown(dock) -> None:
    dock.add_image(name="T1", scale=(2, 1, 1), units=("mm",) * 3)
    dock.choose(domain=domain(SMALL))
    said: list[str] = []

    def note(results) -> None:
        if any(isinstance(one, ClassVolumes) for one in results):
            said.append(dock.widget.domain_banner.message)

    session_of(dock.viewer).controller.received.connect(note)
    dock.run()
    assert said
    assert all(WRONG in message for message in said)


def test_volumes_are_greyed_with_that_sentence(outside) -> None:
    widget = outside.widget
    assert widget.domain_banner.isVisibleTo(widget)
    assert "seen 0.001 to 0.002 mL" in widget.domain_banner.message
    assert not widget.banner.isVisibleTo(widget)
    for row in widget.spread.rows[1:]:
        assert row.volume.text()
        for figure in (row.volume, row.interval):
            assert figure.is_doubtful
            assert WRONG in figure.toolTip()
    assert "outside the model's domain" in widget.spread.caption.text()
    assert ss.explorer(outside.viewer).domain.findings[0].what == "CSF"


def test_sizes_of_hypotheses_are_greyed_too(outside) -> None:
    panel = outside.widget.hypotheses
    outside.widget.state.display.fold("hypotheses", is_open=True)
    outside.settle()
    assert panel.rows
    assert all(WRONG in row.doubt and WRONG in row.toolTip() for row in panel.rows)
    panel.set_doubt("")
    assert not any(row.doubt or "outside" in row.toolTip() for row in panel.rows)


def test_what_was_dismissed_stays_so_but_volumes_stay_grey(outside) -> None:
    widget = outside.widget
    widget.domain_banner.dismiss_button.click()
    widget.spread.temperature_slider.set_value(1.5)
    outside.settle()
    assert not widget.domain_banner.isVisibleTo(widget)
    assert all(row.volume.is_doubtful for row in widget.spread.rows[1:])
    outside.run()
    assert widget.domain_banner.isVisibleTo(widget)


@pytest.mark.parametrize("statistics", [(ANY,), ()])
def test_a_model_that_serves_it_or_does_not_say_takes_it_back(outside, statistics) -> None:
    fields = {"domain": domain(*statistics)} if statistics else {}
    outside.widget.source.choose_model(tiny_model(outside.folder / "other.safetensors", **fields))
    outside.run()
    widget = outside.widget
    assert not widget.domain_banner.isVisibleTo(widget)
    assert not any(row.volume.is_doubtful for row in widget.spread.rows[1:])
    assert "domain" not in widget.spread.caption.text()
    check = ss.explorer(outside.viewer).domain
    assert (check is None) == (not statistics)


def test_what_is_saved_says_so(outside, tmp_path) -> None:
    ss.explorer(outside.viewer).save(tmp_path / "seg.nii.gz")
    record = json.loads((tmp_path / "seg.json").read_text())
    assert len(record["outside_domain"]) == 1
    assert record["outside_domain"][0].startswith("CSF ")
    with (tmp_path / "seg.csv").open(newline="") as file:
        assert {row["in_domain"] for row in csv.DictReader(file)} == {"no"}
