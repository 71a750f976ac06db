"""`structseg bench`: what the sliders cost on this machine."""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from napari_structseg.errors import ConfigError, InputError

bench = App(name="bench", help="Measure speed and memory on this machine.")


@bench.command
def explore(
    *,
    json: Path,
    shape: tuple[int, int, int] = (155, 240, 240),
    moves: int = 200,
    memory_moves: int = 10_000,
    device: str = "cpu",
    no_window: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Time slider moves: computing, painting, memory; beside the direct way.

    The direct way is torch.distributions.LowRankMultivariateNormal, the labels of the full volume
    for each move, and a new array for the layer. The default shape needs about 6 GB of memory and
    some minutes.

    Parameters
    ----------
    json
        File for the result.
    shape
        Z Y X of the image.
    moves
        Slider moves behind each percentile.
    memory_moves
        Slider moves after which memory is compared with before.
    device
        Where both compute.
    no_window
        Leave out painted frames, which need a screen.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.explore import bench_explore, rows
    from napari_structseg.bench.timing import Settings

    if min(shape) < 2 or moves < 1 or memory_moves < 1:
        raise ConfigError(
            f"--shape needs three sizes of at least 2, --moves and --memory-moves at least 1, but "
            f"they are {shape}, {moves} and {memory_moves}."
        )
    _check(json, window=not no_window, device=device)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        settings = Settings(shape, moves, memory_moves, window=not no_window, device=device)
        result = bench_explore(settings, lambda what: status.update(f"Measuring {what}…"))
    _write(json, result)
    table = Table("", "ours", "napari alone", "the direct way")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)


@bench.command
def history(
    *, json: Path, shape: tuple[int, int, int] = (155, 240, 240), actions: int = 12
) -> None:
    """Time accept, undo and redo of whole labellings, beside a copy for each step.

    The default needs about 1 GB of memory and less than a minute.

    Parameters
    ----------
    json
        File for the result.
    shape
        Z Y X of the image.
    actions
        How many labellings are accepted, undone and done again.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.history import bench_history, rows

    if min(shape) < 2 or actions < 1:
        raise ConfigError(
            f"--shape needs three sizes of at least 2, --actions at least 1, but they are {shape} "
            f"and {actions}."
        )
    _check(json, window=False)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        result = bench_history(shape, actions, lambda what: status.update(f"Measuring {what}…"))
    _write(json, result)
    table = Table("", "ours", "copies")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)


@bench.command
def meanfield(
    *,
    json: Path,
    shape: tuple[int, int, int] = (155, 240, 240),
    iterations: int = 10,
    runs: int = 3,
    moves: int = 50,
    device: str = "cpu",
    no_window: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Time mean field with the MRF of brain-tissue, beside the direct way.

    The direct way is convolution, leaky ReLU, convolution and softmax in torch over the whole
    volume. Both must agree to 1e-5 in probability. Needs nilearn for the brain, about 3 GB of
    memory and some minutes.

    Parameters
    ----------
    json
        File for the result.
    shape
        Z Y X of the image.
    iterations
        Iterations of each run.
    runs
        Runs behind each median.
    moves
        Slider moves behind each percentile.
    device
        Where both compute.
    no_window
        Leave out painted frames, which need a screen.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.meanfield import MeanFieldSettings, bench_meanfield, rows

    if min(shape) < 2 or min(iterations, runs, moves) < 1:
        raise ConfigError(
            f"--shape needs three sizes of at least 2, --iterations, --runs and --moves at least "
            f"1, but they are {shape}, {iterations}, {runs} and {moves}."
        )
    _check(json, window=not no_window, device=device)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        settings = MeanFieldSettings(
            shape, iterations, runs, moves, window=not no_window, device=device
        )
        result = bench_meanfield(settings, lambda what: status.update(f"Measuring {what}…"))
    _write(json, result)
    table = Table("", "ours", "the direct way", "ours is faster")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)


@bench.command
def correct(
    *,
    json: Path,
    shape: tuple[int, int, int] = (155, 240, 240),
    strokes: int = 100,
    direct_strokes: int = 5,
    no_window: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Time strokes: from a dab of the brush to the corrected slice; beside the full-volume way.

    The full-volume way finds the same posterior of the factors, and then labels every voxel. The
    default shape needs about 4 GB of memory and some minutes.

    Parameters
    ----------
    json
        File for the result.
    shape
        Z Y X of the image.
    strokes
        Dabs of the brush behind each percentile; each is added to those before.
    direct_strokes
        The same for the full-volume way.
    no_window
        Leave out painted frames, which need a screen.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.correct import CorrectSettings, bench_correct, rows

    if min(shape) < 2 or min(strokes, direct_strokes) < 1:
        raise ConfigError(
            f"--shape needs three sizes of at least 2, --strokes and --direct-strokes at least 1, "
            f"but they are {shape}, {strokes} and {direct_strokes}."
        )
    _check(json, window=not no_window)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        settings = CorrectSettings(shape, strokes, direct_strokes, window=not no_window)
        result = bench_correct(settings, lambda what: status.update(f"Measuring {what}…"))
    _write(json, result)
    table = Table("", "ours", "the full-volume way")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)


@bench.command
def finetune(
    *,
    json: Path,
    shape: tuple[int, int, int] = (155, 240, 240),
    moves: int = 100,
    seconds: float = 20.0,
    patch: int = 32,
    device: str = "cpu",
    no_window: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Time slider moves while a model learns in the background, in turn with moves while it rests.

    brain-tissue learns from random labels in a process of its own. A drag is ten moves, and a
    second passes between two drags. The default shape needs about 4 GB of memory and some minutes.

    Parameters
    ----------
    json
        File for the result.
    shape
        Z Y X of the image.
    moves
        Slider moves behind each percentile.
    seconds
        For how long steps of training are counted while no slider moves.
    patch
        Voxels along each side of a training patch.
    device
        Where the model learns.
    no_window
        Measure the engine alone, without painted frames, which need a screen.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.finetune import FinetuneSettings, bench_finetune, rows

    if min(shape) < 2 or moves < 1 or seconds <= 0 or patch < 16:
        raise ConfigError(
            "--shape needs three sizes of at least 2, --moves at least 1, --seconds more than 0, "
            f"--patch at least 16, but they are {shape}, {moves}, {seconds:g} and {patch}."
        )
    _check(json, window=not no_window)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        settings = FinetuneSettings(shape, moves, seconds, patch, not no_window, device)
        result = bench_finetune(settings, lambda what: status.update(f"Measuring {what}…"))
    _write(json, result)
    table = Table("", "alone", "together", "ratio")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)


@bench.command
def sampling(
    *,
    json: Path,
    sizes: tuple[int, int] = (512, 128),
    samples: tuple[int, ...] = (1, 16, 100),
    runs: int = 3,
    device: str = "cpu",
) -> None:
    """Time samples of a latent decoder (Probabilistic U-Net), beside the direct way.

    The direct way tiles the latent vector over the image, concatenates it with the features and
    runs three 1x1 layers in torch for each sample. Both must agree to 1e-4 in the logits. The
    default needs about 2 GB of memory and takes many minutes.

    Parameters
    ----------
    json
        File for the result.
    sizes
        Pixels along each side of the square, and voxels along each side of the cube.
    samples
        How many samples, one or several numbers.
    runs
        Runs behind each median.
    device
        Where both compute.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.sampling import bench_sampling, rows

    if min(*sizes, *samples, runs) < 1:
        raise ConfigError(
            f"--sizes, --samples and --runs need numbers of at least 1, but they are {sizes}, "
            f"{samples} and {runs}."
        )
    _check(json, window=False, device=device)
    square, cube = sizes
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        result = bench_sampling(
            [(square,) * 2, (cube,) * 3],
            samples,
            runs,
            lambda what: status.update(f"Measuring {what}…"),
            device,
        )
    _write(json, result)
    table = Table("", "ours", "the direct way", "ours is faster")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)


@bench.command
def predict(
    *,
    json: Path,
    model: str = "brain-tissue",
    shape: tuple[int, int, int] | None = None,
    device: str = "cpu",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    no_direct: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Time a prediction of MNI152, beside a sliding window over the same network.

    The direct way is MONAI's sliding window where MONAI is installed, else the same in plain
    torch: windows as large as the training patches, an overlap of one half, blended by a
    Gaussian. Needs nilearn for the brain, about 4 GB of memory and some minutes.

    Parameters
    ----------
    json
        File for the result.
    model
        A shipped 3-D model, or its file.
    shape
        Z Y X of the middle of the brain that is predicted; all of it unless given.
    device
        Where both compute.
    precision
        What our features are computed in, see structseg predict; the direct way is in float32.
    no_direct
        Leave out the direct way, which takes most of the time.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.predict import PredictSettings, bench_predict, rows

    if shape is not None and min(shape) < 1:
        raise ConfigError(f"--shape needs three sizes of at least 1, but they are {shape}.")
    _check(json, window=False, device=device)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        settings = PredictSettings(model, shape or (), not no_direct, device, precision)
        result = bench_predict(settings, lambda what: status.update(f"Measuring {what}…"))
    _write(json, result)
    table = Table("", "ours", "the sliding window")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)


@bench.command
def graphcut(*, json: Path, runs: int = 5, by: str = "auto", moves: int = 100) -> None:
    """Time a graph cut from arrays to labels, beside the library for maximum flow alone.

    At 256 x 256 and 64 x 128 x 128, with the weights that everything starts with and with such
    that the flow decides every voxel. The library is handed the capacities of the same graph; its
    time is that of building it, of the flow and of the sides. Expansions of four classes, which
    have no such counterpart, have a row of their own. Needs about 1 GB of memory. Then
    the visible slice of 256 x 256 is timed by the clock while weights move, as in the dock, with
    the library that the dock takes.

    Parameters
    ----------
    json
        File for the result.
    runs
        Runs behind each median.
    by
        The library: scipy, pymaxflow, or auto (PyMaxflow if it is installed).
    moves
        Moves of a slider behind each percentile.
    """
    from rich.console import Console
    from rich.table import Table

    from napari_structseg.bench.graphcut import SHAPES, bench_graphcut, rows, slice_rows

    if min(runs, moves) < 1:
        raise ConfigError(
            f"--runs and --moves need numbers of at least 1, but they are {runs} and {moves}."
        )
    _check(json, window=False)
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        result = bench_graphcut(
            SHAPES, runs, lambda what: status.update(f"Measuring {what}…"), by, moves=moves
        )
    _write(json, result)
    table = Table("", "ours", "the library alone", "ratio")
    for row in rows(result):
        table.add_row(*row)
    Console(highlight=False).print(table)
    table = Table("", "median", "p95", caption="wall time; aim: p95 below 50 ms")
    for slice_row in slice_rows(result):
        table.add_row(*slice_row)
    Console(highlight=False).print(table)


def _check(json: Path, *, window: bool, device: str = "cpu") -> None:
    """Refuse what would fail only after minutes."""
    from napari_structseg.screen import check_screen

    if not json.parent.is_dir() or json.is_dir():
        raise InputError(f"Cannot write {json}: give a file in a folder that exists.")
    if device != "cpu":
        # Every machine has a CPU, and torch takes a second to load.
        from napari_structseg.devices import resolve_device

        resolve_device(device)
    # The user's own settings of napari are neither used nor changed.
    os.environ["NAPARI_CONFIG"] = ""
    if window:
        try:
            check_screen()
        except ConfigError as error:
            raise ConfigError(f"{error} Or leave out painted frames: --no-window.") from error


def _write(json: Path, result: dict[str, Any]) -> None:
    from napari_structseg.io.atomic import atomic_path

    with atomic_path(json) as temporary:
        temporary.write_text(json_format.dumps(result, indent=2) + "\n", encoding="utf-8")
