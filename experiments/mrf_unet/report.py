"""Tables and figures of the MRF-UNet experiment, from its results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cases import CLASSES, IN, OUT
from matplotlib import pyplot as plt
from scipy.stats import wilcoxon

from napari_structseg.io.atomic import atomic_path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "experiments-mrf-unet.md"
FIGURES = REPOSITORY / "docs" / "figures"
MARKS = ("<!-- tables: experiments/mrf_unet/run.py -->", "<!-- end of tables -->")
MODELS = ("U-Net", "MRF-UNet")
COLORS = {"U-Net": "#0072b2", "MRF-UNet": "#d55e00"}
SIZE_COLORS = ("#009e73", "#e69f00", "#cc79a7")
TITLES = {"ibsr18": "IBSR", "hippocampus": "hippocampus"}
IN_USE = 10
SIGNIFICANT = 0.05
# Median Dice of U-Net and MRF-UNet by j, the paper's: MICCAI2012, and MRBrainS18 out of it.
PUBLISHED = {
    IN: {1: (0.82, 0.84), 2: (0.86, 0.90), 3: (0.91, 0.92)},
    OUT: {1: (0.67, 0.73), 2: (0.67, 0.80), 3: (0.79, 0.83)},
}


def comparisons(results: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Data set, distribution and j of every comparison that both models were run for."""
    for dataset in results["config"]["datasets"]:
        for where in (IN, OUT):
            for j in results["config"]["j"]:
                if all(chosen(results, dataset, model, where, j) for model in MODELS):
                    yield dataset, where, j


def chosen(
    results: dict[str, Any], dataset: str, model: str, where: str, j: int
) -> list[dict[str, Any]]:
    """The runs of a model, one for each seed."""
    wanted = {"dataset": dataset, "model": model, "j": j}
    return [
        run for run in results["runs"] if wanted.items() <= run.items() and where in run["dice"]
    ]


def dice(results: dict[str, Any], dataset: str, model: str, where: str, j: int) -> np.ndarray:
    """Dice, (seeds, cases, classes)."""
    runs = chosen(results, dataset, model, where, j)
    return np.array([list(run["dice"][where].values()) for run in runs], dtype=float)


def write_tables(results: dict[str, Any], longer: dict[str, Any] | None) -> None:
    """Replace the tables in the page of the documentation."""
    lines = [*comparison_table(results), "", *class_table(results), ""]
    if longer is not None:
        lines += [*longer_table(results, longer), ""]
    lines += how_it_was_made(results)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    text = "\n".join([MARKS[0], *lines, MARKS[1]])
    with atomic_path(PAGE) as temporary:
        temporary.write_text(before + text + after, encoding="utf-8")


def comparison_table(results: dict[str, Any]) -> list[str]:
    """Medians and paired tests."""
    found = list(comparisons(results))
    n_seeds = len(results["seeds"])
    seeds = "one seed" if n_seeds == 1 else f"{n_seeds} seeds"
    lines = [
        "| Data | | j | U-Net | MRF-UNet | Median difference | Pairs | p | Paper |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for dataset, where, j in found:
        scores = {model: dice(results, dataset, model, where, j) for model in MODELS}
        # Seeds of a case are no independent pairs: their mean is one value.
        unet, mrf = (scores[model].mean(axis=0).ravel() for model in MODELS)
        both = ~(np.isnan(unet) | np.isnan(mrf))
        unet, mrf = unet[both], mrf[both]
        p = min(1.0, wilcoxon(mrf, unet).pvalue * len(found)) if (mrf != unet).any() else 1.0
        paper = PUBLISHED[where].get(j) if dataset == "ibsr18" else None
        lines.append(
            f"| {TITLES[dataset]} | {where} | {j} | {np.median(unet):.3f} | {np.median(mrf):.3f} | "
            f"{np.median(mrf - unet):+.3f} | {len(unet)} | {p_value(p)} | "
            f"{'/'.join(f'{value:.2f}' for value in paper) if paper else '–'} |"
        )
    lines += [
        "",
        f"Median Dice over cases and classes, of the mean over {seeds}. p: two-sided paired "
        f"Wilcoxon test over cases and classes, multiplied by {len(found)} (Bonferroni); bold "
        f"below {SIGNIFICANT}. Paper: its medians of U-Net and MRF-UNet, on other data.",
    ]
    return lines


def p_value(p: float) -> str:
    """A p-value, bold where significant."""
    text = f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
    return f"**{text}**" if p < SIGNIFICANT else text


def class_table(results: dict[str, Any]) -> list[str]:
    """Mean Dice of each class."""
    lines = ["| Data | | j | Class | U-Net | MRF-UNet |", "|---|---|---|---|---|---|"]
    for dataset, where, j in comparisons(results):
        means = [
            np.nanmean(dice(results, dataset, model, where, j), axis=(0, 1)) for model in MODELS
        ]
        for name, unet, mrf in zip(CLASSES[dataset][1:], *means, strict=True):
            lines.append(f"| {TITLES[dataset]} | {where} | {j} | {name} | {unet:.3f} | {mrf:.3f} |")
    return [*lines, "", "Mean Dice over cases and seeds."]


def longer_table(results: dict[str, Any], longer: dict[str, Any]) -> list[str]:
    """The U-Net that was trained for longer, beside the two of the first of its seeds."""
    lines = ["| Data | j | Class | U-Net | MRF-UNet | U-Net, longer |", "|---|---|---|---|---|---|"]
    shown = {**results, "runs": [run for run in results["runs"] if run["seed"] in longer["seeds"]]}
    first, *_ = longer["runs"]
    for where in (IN, OUT):
        for j in longer["config"]["j"]:
            sources = ((shown, "U-Net"), (shown, "MRF-UNet"), (longer, "U-Net"))
            means = [
                np.nanmean(dice(source, first["dataset"], model, where, j), axis=(0, 1))
                for source, model in sources
            ]
            for name, *values in zip(CLASSES[first["dataset"]][1:], *means, strict=True):
                cells = " | ".join(f"{value:.3f}" for value in values)
                lines.append(f"| {TITLES[first['dataset']]}, {where} | {j} | {name} | {cells} |")
    times = [
        sum(run["cpu_seconds"] for run in source["runs"] if matches(run, first, model))
        for source, model in ((shown, "U-Net"), (shown, "MRF-UNet"), (longer, "U-Net"))
    ]
    steps = [shown["config"]["datasets"][first["dataset"]]["steps"]] * 2 + [first["steps"]]
    described = ", ".join(f"{n} steps in {t:.0f} s" for n, t in zip(steps, times, strict=True))
    return [*lines, "", f"Mean Dice over cases, seed {first['seed']}: {described} of CPU time."]


def matches(run: dict[str, Any], other: dict[str, Any], model: str) -> bool:
    """Whether a run of a model is on the data, and of the size and seed, of another run."""
    return run["model"] == model and all(run[k] == other[k] for k in ("dataset", "j", "seed"))


def how_it_was_made(results: dict[str, Any]) -> list[str]:
    """Command, machine and time."""
    seconds = {
        (dataset, model): sum(
            run["cpu_seconds"]
            for run in results["runs"]
            if run["dataset"] == dataset and run["model"] == model
        )
        for dataset in results["config"]["datasets"]
        for model in MODELS
    }
    times = ", ".join(
        f"{TITLES[dataset]} {model} {value:.0f} s" for (dataset, model), value in seconds.items()
    )
    return [
        f"`{results['command']}` on a machine with {results['machine']} ({results['device']}), "
        f"{results['threads']} thread, torch {results['torch']}. Training took, in CPU time over "
        f"all j and seeds: {times}."
    ]


def write_figures(results: dict[str, Any]) -> None:
    """Box plots of each data set, and the convergence of mean field."""
    mpl.rcParams.update({"font.size": 9, "savefig.dpi": 150, "savefig.bbox": "tight"})
    FIGURES.mkdir(exist_ok=True)
    for dataset in results["config"]["datasets"]:
        found = [(where, j) for name, where, j in comparisons(results) if name == dataset]
        if found:
            draw_boxes(results, dataset, found)
    draw_convergence(results)


def draw_boxes(results: dict[str, Any], dataset: str, found: list[tuple[str, int]]) -> None:
    """Dice of each class and j, U-Net beside MRF-UNet (the paper's Figure 3)."""
    places = list(dict.fromkeys(where for where, _ in found))
    classes = CLASSES[dataset][1:]
    sizes = sorted({j for _, j in found})
    figure, axes = plt.subplots(
        len(places), 1, figsize=(6.4, 2.6 * len(places)), layout="constrained", squeeze=False
    )
    for axis, where in zip(axes[:, 0], places, strict=True):
        ticks = []
        for index, (name, j) in enumerate((name, j) for name in classes for j in sizes):
            centre = index + index // len(sizes)
            ticks.append((centre, f"{j}\n{name}" if j == sizes[len(sizes) // 2] else str(j)))
            for model, offset in zip(MODELS, (-0.2, 0.2), strict=True):
                values = dice(results, dataset, model, where, j)[..., classes.index(name)]
                axis.boxplot(
                    values[~np.isnan(values)],
                    positions=[centre + offset],
                    widths=0.34,
                    patch_artist=True,
                    boxprops={"facecolor": COLORS[model], "alpha": 0.6},
                    medianprops={"color": "black"},
                    flierprops={"markersize": 3},
                )
        axis.set_xticks(*zip(*ticks, strict=True))
        axis.set(title=f"{TITLES[dataset]}, {where}", ylabel="Dice")
        axis.grid(axis="y", alpha=0.3)
    patches = [mpl.patches.Patch(color=COLORS[m], alpha=0.6, label=m) for m in MODELS]
    axes[0, 0].legend(handles=patches, loc="lower right")
    axes[-1, 0].set_xlabel("j: widths 2ʲ to 2ʲ⁺⁴")
    save(figure, FIGURES / f"mrf-dice-{dataset}.png")


def draw_convergence(results: dict[str, Any]) -> None:
    """Dice against the iterations of mean field (the paper's Figure 4)."""
    panels = list(dict.fromkeys((dataset, where) for dataset, where, _ in comparisons(results)))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.2 * len(panels), 2.8), layout="constrained", squeeze=False
    )
    for axis, (dataset, where) in zip(axes[0], panels, strict=True):
        for color, j in zip(
            ("#009e73", "#e69f00", "#cc79a7"), results["config"]["j"], strict=False
        ):
            runs = chosen(results, dataset, "MRF-UNet", where, j)
            if runs:
                curves = np.array([run["dice_by_iteration"][where] for run in runs])
                axis.plot(curves.mean(axis=(0, 2)), ".-", color=color, label=f"j = {j}")
        axis.axvline(IN_USE, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=f"{TITLES[dataset]}, {where}", xlabel="iterations of mean field")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("mean Dice")
    axes[0, 0].legend(loc="lower right")
    save(figure, FIGURES / "mrf-convergence.png")


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure without the date and the version that would change at every run."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)
