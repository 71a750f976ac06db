"""The page of the max-margin experiment and its figures, from its results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt

from napari_structseg.evaluation.paired import paired_test
from napari_structseg.io.atomic import atomic_path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, FIGURES = DOCS / "experiments-max-margin.md", DOCS / "figures"
MARKS = ("<!-- tables: experiments/max_margin/run.py -->", "<!-- end of tables -->")
CNN, LONGER, PIECEWISE, JOINT = "CNN", "CNN, longer", "piecewise", "joint"
STAGES = (CNN, LONGER, PIECEWISE, JOINT)
TITLES = {"horses": "Horses", "lidc": "Lung nodules"}
# Jaccard of CNN, piecewise and joint in the paper.
PUBLISHED = {"horses": {CNN: 0.7997, PIECEWISE: 0.8162, JOINT: 0.8454}}
COMPARED = ((PIECEWISE, CNN), (JOINT, PIECEWISE), (JOINT, CNN), (JOINT, LONGER))
_LEVEL = 0.05
# The horses have no licence: their photographs are not passed on.
_MAY_BE_SHOWN = ("lidc",)
_MISSED, _TOO_MUCH = (0, 114, 178), (213, 94, 0)
COLORS = {"train": "#0072b2", "validation": "#d55e00"}

Runs = dict[str, list[dict[str, Any]]]


def write_report(results: dict[str, Any], pictures: Path | None) -> None:
    """Replace the tables of the page, and draw the figures.

    Parameters
    ----------
    results
        Of run.py.
    pictures
        Folder with the labels of some test images; None: the figure of them stays.
    """
    lines: list[str] = []
    for name, shown in TITLES.items():
        runs = complete(results, name)
        if runs[CNN]:
            lines += [*table(results, name, runs), ""]
            if runs[CNN][0]["seed"] == 0:
                title = (
                    f"{shown}: what each makes of some test images; blue is missed, red too much"
                )
                lines += [f"![{title}](figures/max-margin-{name}.png)", ""]
    if lines:
        title = (
            "Objective and Jaccard index over the epochs of joint learning, a line for each seed"
        )
        lines += [f"![{title}](figures/max-margin-curves.png)", ""]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    with atomic_path(PAGE) as temporary:
        text = before + "\n".join([MARKS[0], *lines[:-1], MARKS[1]]) + after
        temporary.write_text(text, encoding="utf-8")
    curves(results)
    if pictures is not None:
        for name in TITLES:
            chosen = complete(results, name)
            if chosen[CNN] and chosen[CNN][0]["seed"] == 0:
                examples(pictures, name, {stage: chosen[stage][0]["stage"] for stage in STAGES})


def complete(results: dict[str, Any], name: str) -> Runs:
    """The runs of the seeds that have every stage, in order of seed."""
    by_seed: dict[int, Runs] = {}
    for run in results["runs"]:
        if run["set"] == name:
            stage = PIECEWISE if run["stage"].startswith(PIECEWISE) else run["stage"]
            by_seed.setdefault(run["seed"], {one: [] for one in STAGES})[stage].append(run)
    found: Runs = {stage: [] for stage in STAGES}
    for seed in sorted(by_seed):
        if all(by_seed[seed].values()):
            for stage, runs in by_seed[seed].items():
                # Of several scales the one that validation chose.
                best = max(runs, key=lambda run: np.mean(list(run["validation"].values())))
                found[stage].append(best)
    return found


def table(results: dict[str, Any], name: str, runs: Runs) -> Iterator[str]:
    """Jaccard of each stage, and the paired tests."""
    n_seeds, n_cases = len(runs[CNN]), len(runs[CNN][0]["test"])
    seeds = f"{n_seeds} seeds" if n_seeds > 1 else "1 seed"
    yield f"**{TITLES[name]}**: {n_cases} test images, {seeds}"
    yield ""
    yield "| | Jaccard, mean | of each seed | the paper's | w1, w2, w3, scale | processor time |"
    yield "|---|---|---|---|---|---|"
    for stage in STAGES:
        scores = jaccard(runs[stage])
        each = ", ".join(f"{one:.4f}" for one in scores.mean(axis=1))
        published = PUBLISHED.get(name, {}).get(stage)
        said = "" if published is None else f"{published:.4f}"
        minutes = np.mean([run["cpu_seconds"] for run in runs[stage]]) / 60
        weights = "; ".join(map(weights_of, runs[stage])) if stage in (PIECEWISE, JOINT) else ""
        yield f"| {stage} | {scores.mean():.4f} | {each} | {said} | {weights} | {minutes:.1f} min |"
    yield ""
    yield "| | difference | p |"
    yield "|---|---|---|"
    for first, second in COMPARED:
        ours, theirs = (of_patients(results, name, runs[stage]) for stage in (first, second))
        test = paired_test(ours, theirs)
        yield f"| {first} - {second} | {np.mean(ours - theirs):+.4f} | {test.p:.2g} |"
    yield ""
    yield verdict(results, name, runs)
    yield ""
    yield (
        "Paired over images, or patients, whose index is the mean over seeds: Wilcoxon's signed "
        f"rank test, not corrected for {len(COMPARED)} comparisons. {results['machine']}, others "
        f"working beside it; torch {results['torch']}."
    )


def verdict(results: dict[str, Any], name: str, runs: Runs) -> str:
    """Whether the order of the paper is found, and how sure that is."""
    steps = []
    for first, second in ((PIECEWISE, CNN), (JOINT, PIECEWISE)):
        ours, theirs = (of_patients(results, name, runs[stage]) for stage in (first, second))
        test, difference = paired_test(ours, theirs), float(np.mean(ours - theirs))
        order = "above" if difference > 0 else "not above"
        sure = "beyond chance" if test.p < _LEVEL else "within chance"
        steps.append((difference > 0 and test.p < _LEVEL, f"{first} is {order} {second} ({sure})"))
    holds = "holds" if all(one for one, _ in steps) else "is not shown"
    said = "; ".join(one for _, one in steps)
    return f"The paper's order, joint above piecewise above CNN, {holds} here: {said}."


def jaccard(runs: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """Of each seed and case, ``(seeds, cases)``."""
    names = sorted(runs[0]["test"])
    return np.array([[run["test"][name] for name in names] for run in runs])


def of_patients(
    results: dict[str, Any], name: str, runs: list[dict[str, Any]]
) -> npt.NDArray[np.float64]:
    """The mean over seeds and the images of a patient, ``(patients,)``."""
    patients = results["patients"][name]
    own: dict[str, list[float]] = {}
    names = sorted(runs[0]["test"])
    for case, value in zip(names, jaccard(runs).mean(axis=0), strict=True):
        own.setdefault(patients[case], []).append(float(value))
    return np.array([np.mean(values) for values in own.values()])


def weights_of(run: dict[str, Any]) -> str:
    """The weights of a CRF as they are read."""
    crf = run["crf"]
    return ", ".join(f"{crf[key]:.2g}" for key in ("unary", "smooth", "contrast", "scale"))


def curves(results: dict[str, Any]) -> None:
    """The paper's Figure 3: the objective and the Jaccard index over epochs of joint learning."""
    mpl.use("Agg")
    figure, axes = plt.subplots(2, len(TITLES), figsize=(4 * len(TITLES), 5), squeeze=False)
    for column, (name, title) in zip(axes.T, TITLES.items(), strict=True):
        for run in results["runs"]:
            if (run["set"], run["stage"]) != (name, JOINT):
                continue
            epochs = range(1, len(run["curve"]) + 1)
            column[0].plot(epochs, [row["loss"] for row in run["curve"]], color="#444444")
            for split, color in COLORS.items():
                label = split if run["seed"] == 0 else None
                values = [row[split] for row in run["curve"]]
                column[1].plot(epochs, values, color=color, label=label)
        column[0].set(title=title, ylabel="objective, per pixel")
        column[1].set(xlabel="epoch", ylabel="Jaccard")
        column[1].legend()
    figure.tight_layout()
    figure.savefig(FIGURES / "max-margin-curves.png", dpi=100)
    plt.close(figure)


def examples(folder: Path, name: str, stages: dict[str, str]) -> None:
    """Some test images of the first seed: what each stage makes of them, and where it errs."""
    mpl.use("Agg")
    loaded = {stage: np.load(folder / f"{name} {own}.npz") for stage, own in stages.items()}
    images, truths = loaded[CNN]["images"], loaded[CNN]["truths"]
    columns = [("image", images)] if name in _MAY_BE_SHOWN else []
    columns += [(stage, errors(one["labels"], truths)) for stage, one in loaded.items()]
    size = (1.5 * len(columns), 1.2 * len(images))
    figure, axes = plt.subplots(len(images), len(columns), figsize=size, squeeze=False)
    for column, (title, pictures) in zip(axes.T, columns, strict=True):
        for axis, picture in zip(column, pictures, strict=True):
            axis.imshow(picture, cmap="gray")
            axis.set_axis_off()
        column[0].set_title(title, fontsize=9)
    figure.tight_layout(pad=0.3)
    figure.savefig(FIGURES / f"max-margin-{name}.png", dpi=100)
    plt.close(figure)


def errors(
    labels: npt.NDArray[np.integer], truths: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint8]:
    """Pictures: grey where both have the object, blue where it is missed, red where it is not."""
    pictures = np.full((*labels.shape, 3), 255, np.uint8)
    found, there = labels != 0, truths != 0
    for where, color in (
        (found & there, 190),
        (there & ~found, _MISSED),
        (found & ~there, _TOO_MUCH),
    ):
        pictures[where] = color
    return pictures
