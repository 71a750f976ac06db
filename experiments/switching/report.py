"""Table and figures of the switching experiment, from its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from scenes import (
    CLASSES,
    FLIP_PROBABILITIES,
    MODE_PROBABILITIES,
    SIZE,
    SWITCHABLE,
    TEST_STREAM,
    Labels,
    Scenes,
)

from napari_structseg.io.atomic import atomic_path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RESULTS = {name: HERE / f"{name}.json" for name in ("longer", "full")}
RESULTS["small"] = HERE / "results.json"
PAGE = REPOSITORY / "docs" / "experiments-switching.md"
FIGURES = REPOSITORY / "docs" / "figures"
MARKS = ("<!-- tables: experiments/switching/run.py -->", "<!-- end of tables -->")
TRUTH = "the truth itself"
N_SHOWN = 6
_MODEL_COLORS = (
    *("#000000", "#0072b2", "#56b4e9", "#999999", "#009e73", "#cc79a7", "#e69f00", "#f0e442"),
    "#8c564b",
)
_COLOR, _TRUTH_COLOR = "#0072b2", "#d55e00"
# Building, then each class and its other label, lighter.
_LABEL_COLORS = (
    *("#444444", "#a0529a", "#c2272d", "#1f4fbf", "#2e8b34", "#7a6a4f"),
    *("#e3a8de", "#ff9d8f", "#8fc3ff", "#a5e39b", "#dcc9a0"),
)


def write_report() -> None:
    """Replace the tables in the page, and draw the figures.

    Of small.toml, and of longer.toml, which has the same test scenes; the results of a GPU stand
    for themselves.
    """
    found = [RESULTS[name] for name in ("small", "longer") if RESULTS[name].exists()]
    if RESULTS["small"] not in found:
        return
    results, *others = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    for other in others:
        results["runs"] |= {name: run for name, run in other["runs"].items() if name != TRUTH}
    order = (TRUTH, *(name for name in results["runs"] if name.startswith("Prob-UNet")))
    results["runs"] = {name: results["runs"][name] for name in order} | results["runs"]
    tables = (mode_table, flip_table, posterior_table, how_it_was_made)
    lines = [line for table in tables for line in ("", *table(results))][1:]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    text = "\n".join([MARKS[0], *lines, MARKS[1]])
    with atomic_path(PAGE) as temporary:
        temporary.write_text(before + text + after, encoding="utf-8")
    mpl.rcParams.update({"font.size": 9, "savefig.dpi": 130, "savefig.bbox": "tight"})
    FIGURES.mkdir(exist_ok=True)
    draw_modes(results)
    draw_pixels(results)
    draw_samples(results)


def mode_table(results: dict[str, Any]) -> list[str]:
    """Frequencies of modes, and the energy distance."""
    counts = results["config"]["counts"]
    lines = [
        "| Model | Total variation | of a scene | All or nothing | Correlation | "
        + " | ".join(f"GED², {n}" for n in counts)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(counts),
    ]
    for name, run in results["runs"].items():
        correlation = "–" if run["correlation"] is None else f"{run['correlation']:.2f}"
        energies = (f"{run['energy'][str(n)]['mean']:.3f}" for n in counts)
        lines.append(
            f"| {name} | {run['total_variation']:.3f} | {run['total_variation_of_a_scene']:.3f} | "
            f"{100 * run['all_or_nothing']:.1f} % | {correlation} | {' | '.join(energies)} |"
        )
    return lines


def flip_table(results: dict[str, Any]) -> list[str]:
    """How often the pixels of each class are flipped."""
    truth = " | ".join(f"{value:.3f}" for value in FLIP_PROBABILITIES)
    lines = [
        f"| Flipped pixels | {' | '.join(SWITCHABLE)} | Largest error |",
        "|---|" + "---|" * (len(SWITCHABLE) + 1),
        f"| probability | {truth} | |",
    ]
    for name, run in results["runs"].items():
        values = np.array([run["flips"][c]["pixels"] for c in SWITCHABLE])
        error = abs(values - FLIP_PROBABILITIES).max()
        cells = " | ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {name} | {cells} | {error:.3f} |")
    return lines


def posterior_table(results: dict[str, Any]) -> list[str]:
    """What the decoder makes of latents that have seen the labels, beside those of the prior."""
    n = results["config"]["counts"][-1]
    lines = [
        f"| Latents | from | Total variation | All or nothing | GED², {n} | KL divergence |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in results["runs"].items():
        if "posterior" in run:
            for source, scores in (("prior", run), ("posterior", run["posterior"])):
                divergence = scores.get("divergence")
                lines.append(
                    f"| {name} | {source} | {scores['total_variation']:.3f} | "
                    f"{100 * scores['all_or_nothing']:.1f} % | "
                    f"{scores['energy'][str(n)]['mean']:.3f} | "
                    f"{'' if divergence is None else f'{divergence:.1f} nats'} |"
                )
    return lines


def how_it_was_made(results: dict[str, Any]) -> list[str]:
    """Budget, machine and time."""
    config = results["config"]
    trained = {name: run for name, run in results["runs"].items() if name != TRUTH}
    times = ", ".join(f"{name} {run['cpu_seconds']:.0f} s" for name, run in trained.items())
    steps = sorted({run["steps"] for run in trained.values()})
    found = min(run["flips"][name]["found"] for run in trained.values() for name in SWITCHABLE)
    return [
        f"{config['test_scenes']} test scenes, {config['samples']} samples of each. "
        f"{steps[0]} steps of {config['training']['batch']} scenes out of "
        f"{config['training_scenes']}"
        + (f" ({steps[-1]} for the longer run)" if len(steps) > 1 else "")
        + f". Every model finds at least {100 * found:.1f} % of the pixels of each class under one "
        f"of its two labels. CPU time of training: {times}; a machine with {results['machine']} "
        f"({results['device']}), {results['threads']} thread, shared with other work, torch "
        f"{results['torch']}."
    ]


def draw_modes(results: dict[str, Any]) -> None:
    """Estimated frequency of each mode beside its probability (the paper's Figure 5)."""
    order = np.argsort(-MODE_PROBABILITIES, kind="stable")
    names = list(results["runs"])
    figure, axes = _grid(len(names), (3.4, 1.9))
    for axis, name in zip(axes, names, strict=False):
        frequencies = np.array(results["runs"][name]["frequencies"])[order]
        axis.bar(range(len(order)), frequencies, color=_COLOR, width=0.8)
        axis.plot(MODE_PROBABILITIES[order], ".", color=_TRUTH_COLOR, markersize=5)
        axis.set(title=name, yscale="log", ylim=(1e-4, 1.2), xticks=[])
    for axis in axes[-2:]:
        axis.set_xlabel("32 modes, the most probable first")
    figure.supylabel("frequency")
    figure.legend(
        handles=[
            mpl.patches.Patch(color=_COLOR, label="samples"),
            mpl.lines.Line2D(
                [], [], color=_TRUTH_COLOR, marker=".", linestyle="", label="probability"
            ),
        ],
        loc="outside upper center",
        ncols=2,
    )
    save(figure, FIGURES / "switching-modes.png")


def draw_pixels(results: dict[str, Any]) -> None:
    """How often a pixel is flipped: its median and 5 to 95 % over pixels, for each class."""
    runs = results["runs"]
    figure, axis = plt.subplots(figsize=(6.6, 3.2), layout="constrained")
    for number, (name, color) in enumerate(zip(runs, _MODEL_COLORS, strict=False)):
        flips = [runs[name]["flips"][c] for c in SWITCHABLE]
        low, middle, high = np.array([flip["quantiles"] for flip in flips]).T
        x = np.arange(len(SWITCHABLE)) + 0.1 * (number - (len(runs) - 1) / 2)
        axis.errorbar(
            x, middle, (middle - low, high - middle), fmt=".", color=color, label=name, capsize=2
        )
    for index, value in enumerate(FLIP_PROBABILITIES):
        axis.hlines(value, index - 0.45, index + 0.45, color=_TRUTH_COLOR, linewidth=1.5)
    axis.set_xticks(range(len(SWITCHABLE)), SWITCHABLE)
    axis.set(ylabel="frequency of the flipped label", ylim=(-0.03, 1.03))
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper")
    save(figure, FIGURES / "switching-pixels.png")


def draw_samples(results: dict[str, Any]) -> None:
    """The first test scene, and the first samples of it."""
    config, runs = results["config"], results["runs"]
    scenes = Scenes(config["test_scenes"], np.random.default_rng((config["seed"], TEST_STREAM)))
    colors = mpl.colors.ListedColormap(_LABEL_COLORS)
    figure, axes = plt.subplots(
        len(runs), 1 + N_SHOWN, figsize=(6.8, 0.95 * len(runs)), layout="constrained"
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis in axes[1:, 0]:
        axis.axis("off")
    axes[0, 0].imshow(np.moveaxis(scenes.images[0], 0, -1).clip(0, 1), interpolation="nearest")
    for row, (name, run) in zip(axes[:, 1:], runs.items(), strict=True):
        for axis, text in zip(row, run["shown"], strict=True):
            axis.imshow(
                unpacked(text), cmap=colors, vmin=0, vmax=len(CLASSES) - 1, interpolation="nearest"
            )
        row[0].set_title(name, loc="left", fontsize=8, pad=2)
    save(figure, FIGURES / "switching-samples.png")


def packed(labels: Labels) -> str:
    """A segmentation as text, a hexadecimal digit for each pixel."""
    return "".join(f"{label:x}" for label in labels.ravel())


def unpacked(text: str) -> Labels:
    """The segmentation of a text, ``(32, 32)``."""
    return np.array([int(digit, 16) for digit in text], np.uint8).reshape(SIZE, SIZE)


def _grid(n_panels: int, size: tuple[float, float]) -> tuple[plt.Figure, list[plt.Axes]]:
    """Panels in two columns."""
    n_rows = -(-n_panels // 2)
    figure, axes = plt.subplots(
        n_rows,
        2,
        figsize=(2 * size[0], n_rows * size[1]),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat[n_panels:]:
        axis.axis("off")
    return figure, list(axes.flat)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure without the date and the version that would change at every run."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)
