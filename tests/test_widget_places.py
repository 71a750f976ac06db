"""Disputed regions are jumped to and reviewed; a place is asked what else it could be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import napari_structseg as ss
from dock_helpers import correcting, dock, exploring  # noqa: F401 -- fixtures


def look_for_disputed(made) -> None:
    made.correct.sections[2].header.click()
    made.settle()
    assert made.correct.correcting.places.regions


def test_the_next_disputed_region_is_shown_and_marked(correcting) -> None:
    viewer, panel = correcting.viewer, correcting.correct.disputed
    step = viewer.dims.current_step
    look_for_disputed(correcting)
    places = correcting.correct.correcting.places
    regions = places.regions
    sizes = [region.disagreement_ml for region in regions]
    assert sizes == sorted(sizes, reverse=True)
    assert panel.list.count() == len(regions)
    assert "0 reviewed" in panel.caption.text()
    # Nothing moves by itself.
    assert viewer.dims.current_step == step
    panel.next_button.click()
    assert viewer.dims.current_step[0] == regions[0].centre[0]
    assert panel.list.currentRow() == 0
    correcting.correct.review()
    assert places.is_reviewed(regions[0])
    assert panel.list.item(0).text().startswith("✓")
    assert places.chosen != 0 or len(regions) == 1
    panel.previous_button.click()
    panel.next_button.click()
    assert places.chosen != 0 or len(regions) == 1
    panel.list.itemClicked.emit(panel.list.item(0))
    assert places.chosen == 0
    panel.reviewed_button.click()
    assert not places.is_reviewed(regions[0])


def test_a_place_lists_what_it_could_be_and_one_is_accepted_there_alone(correcting) -> None:
    look_for_disputed(correcting)
    places, here = correcting.correct.correcting.places, correcting.correct.here
    panel = correcting.correct.disputed
    panel.next_button.click()
    panel.here_button.click()
    correcting.settle()
    found = places.here.hypotheses.found
    assert len(here.rows) == len(found) >= 1
    assert f"{100 * found[0].frequency:.0f} %" in here.rows[0].see_button.text()
    row, one = here.rows[-1], found[-1]
    row.see_button.click()
    correcting.settle()
    assert correcting.widget.controls.sample == one.representative
    assert row.see_button.isChecked()
    sample = correcting.labels.copy()
    correcting.widget.strip.select(0)
    row.accept_button.click()
    correcting.settle()
    mask = places.here.hypotheses.place.to_mask(sample.shape)
    assert np.array_equal(correcting.result, np.where(mask, sample, 0))


def test_a_click_asks_about_what_is_marked_there(correcting) -> None:
    panel, here = correcting.correct.result, correcting.correct.here
    panel.paint_button.click()
    region = correcting.viewer.layers["Region"]
    correcting.drag(region, (6, 10, 8))
    here.ask((6, 10, 8))
    correcting.settle()
    place = correcting.widget.state.correction.here
    assert np.array_equal(place.to_mask(region.data.shape), region.data != 0)
    assert here.rows
    assert "here" in correcting.widget.state.display.open_sections
    # Elsewhere, it is the component, or what is around.
    here.ask((2, 3, 3))
    correcting.settle()
    assert correcting.widget.state.correction.here != place
    assert correcting.widget.state.correction.here.to_mask(region.data.shape)[2, 3, 3]


def test_asking_waits_for_a_click_and_gives_up(correcting) -> None:
    here, places = correcting.correct.here, correcting.correct.correcting.places
    here.ask_button.click()
    assert here.ask_button.isChecked()
    assert places.is_picking(here)
    assert "Click on the place" in correcting.correct.hint.text()
    here.ask_button.click()
    assert not places.is_picking(here)
    assert not here.ask_button.isChecked()
    correcting.correct.result.component_button.click()
    assert correcting.correct.result.component_button.isChecked()
    assert not here.ask_button.isChecked()
    places.stop_picking()
    assert not correcting.correct.result.component_button.isChecked()
    assert ss.explorer(correcting.viewer).state.correction.here is None


def test_a_handle_makes_a_class_larger_and_says_its_percentile(correcting) -> None:
    panel = correcting.correct.larger
    assert not panel._page.isEnabled()
    correcting.correct.sections[4].header.click()
    correcting.settle()
    assert panel._page.isEnabled()
    controls = correcting.widget.state.controls
    volumes = []
    for t in (-2.0, 0.0, 2.0):
        panel.sliders[0].set_value(t)
        correcting.settle()
        assert bool(controls.latent) == (t != 0)
        volumes.append(np.count_nonzero(correcting.labels == 1))
        word = "larger" if t > 0 else "smaller"
        assert t == 0 or f"{word} than" in panel.words[0].text()
        assert "% of the samples" in panel.words[0].text()
    assert volumes[0] < volumes[1] < volumes[2]
    correcting.widget.strip.select(3)
    assert panel.words[0].text() == ""


def test_the_list_says_when_there_are_more(correcting) -> None:
    look_for_disputed(correcting)
    places, panel = correcting.correct.correcting.places, correcting.correct.disputed
    known = places.disputed
    for n, words in ((1, "1 region,"), (2, "2 regions,"), (200, "The 200 most disputed regions,")):
        regions = (known.regions[0],) * n
        correcting.widget._controller.received.emit((replace(known, regions=regions),))
        assert panel.caption.text().startswith(words)
