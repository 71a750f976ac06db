"""Older results make room for a run that finds too little memory."""

from __future__ import annotations

import gc
import sys
import weakref

import numpy as np
import pytest
import torch

import napari_structseg as ss
from dock_helpers import brain, dock  # noqa: F401 -- a fixture
from napari_structseg.errors import MemoryLimitError
from napari_structseg.memory import available_memory, check_memory
from napari_structseg.models import HeadSpec
from napari_structseg.session.making_room import held_bytes, n_to_close
from napari_structseg.session.runner import ModelRun
from napari_structseg.widgets.exploration import Exploration

SHAPE = (48, 128, 128)
MB = 1 << 20
# Results so large that what a few threads reserve, or give back, does not count (72 MB each).
RANK = 64
SHORT = 100 * MB


def test_no_more_is_closed_than_needed_and_nothing_in_vain() -> None:
    assert n_to_close(10, [20, 30]) == 1
    assert n_to_close(20, [20, 30]) == 1
    assert n_to_close(21, [20, 30]) == 2
    assert n_to_close(51, [20, 30]) == 0
    assert n_to_close(1, []) == 0


def test_what_a_distribution_holds() -> None:
    mean = torch.zeros(3, 4, 5, 6)
    factor = torch.zeros(2, 3, 4, 5, 6, dtype=torch.float16)
    held = held_bytes(ss.LowRankNormal(mean, factor, torch.full_like(mean, 0.1)))
    assert held == 360 * (4 + 4 + 2 * 2)


def test_the_error_says_how_much_is_missing() -> None:
    with pytest.raises(MemoryLimitError) as caught:
        check_memory(1000, "This", 400)
    assert caught.value.missing_bytes == 600


@pytest.fixture
def limit():
    """Leave this process so many bytes, until told otherwise."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux limits the address space of a process")
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)

    def leave(free: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_AS, before)
        if free is not None:
            gc.collect()
            with open("/proc/self/statm", encoding="ascii") as file:
                mapped = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + free, before[1]))

    yield leave
    leave(None)


def test_an_older_result_makes_room_and_its_labelling_stays(dock, limit) -> None:
    dock.add_image(brain(SHAPE), name="T1")
    dock.choose(head=HeadSpec(rank=RANK))
    dock.run()
    dock.widget.strip.select(3)
    controls = dock.widget.controls
    wanted = ss.render_labels(dock.distribution, controls.noise, controls)
    layer, held = dock.widget.layers.segmentation, held_bytes(dock.distribution)
    distribution = weakref.ref(dock.distribution)
    dock.widget.source.choose_image(dock.add_image(brain(SHAPE, seed=1), name="T2"))
    session = dock.widget._session
    # The limit is for the check alone.
    session.runs.progressed.connect(lambda _done, _total: limit(None))
    said = []
    session.controller.said.connect(said.append)
    # Less than the run needs, and more with what the older result gives back.
    free = held - SHORT
    limit(free)
    assert available_memory() <= free
    dock.run()
    limit(None)
    assert not dock.widget.banner.message
    assert "Memory is short: closing older results…" in said
    assert dock.widget._controller.current.image.name == "T2"
    assert distribution() is None
    assert np.array_equal(layer.data, wanted)
    assert layer in dock.viewer.layers
    assert layer.editable
    dock.widget.source.choose_image(dock.viewer.layers["T1"])
    assert not dock.widget.is_exploring()


def test_what_is_held_for_undo_makes_room_first(dock, limit) -> None:
    layer = dock.add_image(brain(SHAPE), name="T1")
    model = dock.choose(head=HeadSpec(rank=RANK))
    dock.run()
    session, old = dock.widget._session, dock.widget._controller.current
    # Other weights of the same model take its place; the old result is held.
    given = []
    run = ModelRun(str(model), old.image, device="cpu", synchronous=True)
    run.finished.connect(given.append)
    run.start()
    new = Exploration(dock.viewer, run, given.pop(), old.image, layer, old.layers, is_complete=True)
    session.swapping.swap(new, "fine-tune swap")
    dock.settle()
    held, distribution = held_bytes(dock.distribution), weakref.ref(old.engine.distribution)
    assert session.swapping.held is old
    del old
    said, shown = [], []
    session.controller.said.connect(said.append)

    def on_progress(_done: int, _total: int) -> None:
        limit(None)
        shown.append(session.controller.current is new)

    session.runs.progressed.connect(on_progress)
    limit(held - SHORT)
    dock.run()
    limit(None)
    assert not dock.widget.banner.message
    assert "Memory is short: closing older results…" in said
    assert distribution() is None
    # It was enough: what is shown stays until there is something else to show.
    assert shown[0]
    assert dock.widget.is_exploring()


def test_results_stay_where_closing_them_would_not_help(dock, limit) -> None:
    dock.add_image(brain(), name="T1")
    dock.choose()
    dock.run()
    layer = dock.viewer.layers["T1"]
    dock.widget.source.choose_image(dock.add_image(brain(SHAPE), name="T2"))
    # A thread needs 8 MB for its stack.
    limit(32 * MB)
    dock.run()
    limit(None)
    assert "of memory" in dock.widget.banner.message
    dock.widget.source.choose_image(layer)
    dock.settle()
    assert dock.widget.is_exploring()
