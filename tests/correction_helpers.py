"""Actions by chance on a small result, for tests of its history and of its sessions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_structseg.correction.actions import Correction
from napari_structseg.correction.identity import ImageIdentity, identify
from napari_structseg.distributions import Strokes
from napari_structseg.image import Image
from napari_structseg.models import ClassSpec

SHAPES = [(5, 6, 7), (9, 8)]
CLASSES = tuple(
    ClassSpec(name=name, color=color)
    for name, color in (
        ("air", "#000000"),
        ("one", "#ff0000"),
        ("two", "#00ff00"),
        ("x", "#0000ff"),
    )
)
N_CLASSES = len(CLASSES)


def small_image(shape: tuple[int, ...] = SHAPES[0], seed: int = 0) -> Image:
    voxels = np.random.default_rng(seed).integers(0, 99, shape).astype(np.int16)
    return Image.from_array(voxels, spacing=(2.0, 1.0, 1.0)[: len(shape)], name="scan")


def identity_of(shape: tuple[int, ...] = SHAPES[0], seed: int = 0) -> ImageIdentity:
    return identify(small_image(shape, seed))


def labelling(seed: int, shape: tuple[int, ...] = SHAPES[0]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, N_CLASSES, shape).astype(np.uint8)


def strokes_of(seed: int, shape: tuple[int, ...]) -> Strokes:
    random = np.random.default_rng(seed)
    array = random.integers(0, N_CLASSES + 1, shape) * (random.random(shape) < 0.1)
    return Strokes.from_array(array, N_CLASSES)


def snapshot(correction: Correction) -> tuple[object, ...]:
    """All that a correction holds, apart from its history."""
    result = correction.result
    return (
        result.labels.tobytes(),
        result.locked.tobytes(),
        result.locked_classes,
        tuple(result.counts.tolist()),
        correction.strokes,
    )


def everything(correction: Correction) -> tuple[object, ...]:
    """All that a correction holds."""
    past = correction.past
    return (*snapshot(correction), past.done, past.undone, past.beyond_undo)


def act(correction: Correction, random: np.random.Generator) -> None:
    """One action, chosen by chance; it may change nothing."""
    shape = correction.result.shape
    n_voxels = int(np.prod(shape))
    other = random.integers(0, N_CLASSES, shape).astype(np.uint8)
    mask = random.random(shape) < random.random()
    voxels = random.integers(0, n_voxels, random.integers(0, 20))
    voxel = [int(random.integers(size)) for size in shape]
    actions: list[Callable[[], object]] = [
        lambda: correction.accept(other, name="accept all", details={"sample": 3}),
        lambda: correction.accept(other, region=mask, name="accept region"),
        lambda: correction.accept_component(other, voxel, name="accept component"),
        lambda: correction.paint(voxels, int(random.integers(N_CLASSES))),
        lambda: correction.lock_class(
            int(random.integers(N_CLASSES)), is_locked=random.random() < 0.3, name="lock class"
        ),
        lambda: correction.lock_region(mask, is_locked=random.random() < 0.5, name="lock region"),
        lambda: correction.set_strokes(
            strokes_of(int(random.integers(99)), shape), name="condition"
        ),
    ]
    actions[random.integers(len(actions))]()


def act_or_undo(correction: Correction, random: np.random.Generator) -> None:
    """As :func:`act`, with undo and redo among the actions."""
    choice = random.random()
    if choice < 0.7:
        act(correction, random)
    elif choice < 0.88:
        correction.undo()
    else:
        correction.redo()


def next_event(correction: Correction, seed: int, number: int) -> None:
    """Exactly one event, which the seed, its number and what is there say."""
    events: list[object] = []
    correction.recorded.connect(events.append)
    tries = 0
    while not events:
        act_or_undo(correction, np.random.default_rng((seed, number, tries)))
        tries += 1
    correction.recorded.disconnect(events.append)
