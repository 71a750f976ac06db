"""Tables and figures of the LIDC experiment, from its results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from napari_structseg.io.atomic import atomic_path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PAGE = REPOSITORY / "docs" / "experiments-lidc.md"
FIGURES = REPOSITORY / "docs" / "figures"
MARKS = ("<!-- tables: experiments/lidc/run.py -->", "<!-- end of tables -->")
HALVES = {"all": "all four raters", "one": "one rater"}
# The results of a GPU stand for themselves; the page shows the others.
RESULTS = {
    name: {half: HERE / f"{name}-{half}.json" for half in HALVES}
    for name in ("small", "medium", "long", "full")
}
TITLES = {
    "prob-unet": "Prob-UNet",
    "ssn-low-rank": "SSN, low rank",
    "deterministic": "U-Net",
    "m-heads": "M-Heads",
    "dropout": "Dropout U-Net",
    "ensemble": "U-Net ensemble",
    "ssn-diagonal": "SSN, diagonal",
    "image2image-vae": "Image2Image VAE",
}
COLORS = dict(
    zip(
        TITLES,
        ("#0072b2", "#d55e00", "#000000", "#009e73", "#e69f00", "#cc79a7", "#999999", "#56b4e9"),
        strict=True,
    )
)
SHIPPED = HERE / "lung_nodule.json"
_OF_PROBABILITY = ("dice_of_mean_probability", "dice_marked_of_mean_probability")
# DSC and DSC of marked nodules in percent, GED, diversity: Table 1 of Monteiro et al. 2020.
PUBLISHED = {
    "one": {
        "deterministic": (37.5, 50.3, 0.698, 0.000),
        "prob-unet": (38.4, 57.2, 0.516, 0.290),
        "ssn-diagonal": (37.1, 51.2, 0.734, 0.001),
        "ssn-low-rank": (40.7, 58.6, 0.365, 0.399),
    },
    "all": {
        "deterministic": (35.9, 43.5, 0.607, 0.000),
        "prob-unet": (39.0, 50.6, 0.252, 0.469),
        "ssn-diagonal": (37.0, 46.2, 0.622, 0.007),
        "ssn-low-rank": (43.6, 68.5, 0.225, 0.609),
    },
}
SIGNIFICANT = 0.05
SHOWN_LONGER = "all"


def write_report() -> None:
    """Replace the tables in the page of the documentation, and draw the figure."""
    results = {
        half: json.loads(path.read_text(encoding="utf-8"))
        for half, path in RESULTS["small"].items()
        if path.exists()
    }
    if not results:
        return
    lines: list[str] = []
    for half, found in results.items():
        lines += [f"### Trained on {HALVES[half]}", "", *tables(found, half)]
    lines += [*how_it_was_made(results), ""]
    longer = RESULTS["medium"][SHOWN_LONGER]
    if longer.exists():
        found = json.loads(longer.read_text(encoding="utf-8"))
        lines += [f"### Trained for longer, on {HALVES[SHOWN_LONGER]}", ""]
        lines += tables(found, SHOWN_LONGER)
        options = f"--config medium --half {SHOWN_LONGER}"
        lines += [*how_it_was_made({SHOWN_LONGER: found}, options), ""]
    lines += shipped_table(json.loads(SHIPPED.read_text(encoding="utf-8")))
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    with atomic_path(PAGE) as temporary:
        text = "\n".join([MARKS[0], *lines, MARKS[1]])
        temporary.write_text(before + text + after, encoding="utf-8")
    draw_curves(results)


def tables(results: dict[str, Any], half: str) -> list[str]:
    """Everything about one half."""
    parts = (score_table(results, half), curve_table(results), comparison_table(results))
    return [line for part in parts for line in (*part, "")]


def shown(results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Scores of each model that was evaluated, always in the same order."""
    return ((name, results["scores"][name]) for name in TITLES if name in results["scores"])


def score_table(results: dict[str, Any], half: str) -> list[str]:
    """The columns of Table 1 of Monteiro et al., with theirs beside, and what else there is."""
    # Results of earlier versions hold the DSC of the mean logits alone.
    both = all("dice_of_mean_probability" in scores for _, scores in shown(results))
    of_probability = "DSC, marked, of the mean probability | " * both
    lines = [
        "| Model | DSC | DSC, marked | GED | Diversity | Paper: DSC, marked, GED, diversity | "
        f"{of_probability}GED, unbiased | Matched IoU | Best DSC | ECE |",
        "|---|---|---|---|---|---|---|---|---|---|" + "---|" * both,
    ]
    for name, scores in shown(results):
        published = PUBLISHED[half].get(name)
        paper = "–"
        if published is not None:
            paper = "{:.1f}, {:.1f}, {:.3f}, {:.3f}".format(*published)
        cells = (
            percent(scores["dice"]),
            percent(scores["dice_marked"]),
            number(scores["ged"]),
            number(scores["sample_diversity"]),
            paper,
            *(", ".join(percent(scores[name]) for name in _OF_PROBABILITY) for _ in range(both)),
            f"{scores['ged_u']['mean']:.3f}",
            f"{scores['matched_iou']['mean']:.3f}",
            f"{100 * scores['best_dice']['mean']:.1f}",
            f"{scores['ece']['mean']:.4f}",
        )
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    _, scores = next(shown(results))
    data = results["data"]
    lines += [
        "",
        f"{data['cases']} slices of {data['patients']} patients, {results['samples']} samples of "
        "each; ±: standard error, by bootstrap over patients. Diversity of the raters: "
        f"{number(scores['rater_diversity'])}.",
    ]
    return lines


def curve_table(results: dict[str, Any]) -> list[str]:
    """GED against the number of samples, with intervals."""
    counts = results["config"]["counts"]
    lines = [
        f"| GED with | {' | '.join(f'{n} samples' if n > 1 else '1 sample' for n in counts)} |",
        f"|---|{'---|' * len(counts)}",
    ]
    for name, scores in shown(results):
        found = [scores[f"ged_{n}"] for n in counts]
        cells = (f"{one['mean']:.3f} ({one['low']:.3f}–{one['high']:.3f})" for one in found)
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    return [*lines, "", "In brackets: 95 % intervals, by bootstrap over patients."]


def comparison_table(results: dict[str, Any]) -> list[str]:
    """Paired tests of the model with the lowest GED against every other."""
    best = min(dict(shown(results)).items(), key=lambda item: item[1]["ged"]["mean"])[0]
    found = [one for one in results["comparisons"] if best in (one["first"], one["second"])]
    if not found:
        return []
    lines = [
        f"| {TITLES[best]} against | Difference in GED | Patients | p |",
        "|---|---|---|---|",
    ]
    for one in found:
        first = one["first"] == best
        other = one["second"] if first else one["first"]
        ends = (one["low"], one["high"]) if first else (-one["high"], -one["low"])
        difference = one["difference"] if first else -one["difference"]
        lines.append(
            f"| {TITLES[other]} | {difference:+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f}) | "
            f"{one['patients']} | {p_value(one['p_bonferroni'])} |"
        )
    return [
        *lines,
        "",
        "Two-sided paired Wilcoxon tests of the patients' means; p multiplied by "
        f"{found[0]['tests']}, the number of pairs of models (Bonferroni), bold below "
        f"{SIGNIFICANT}.",
    ]


def percent(score: dict[str, float]) -> str:
    """A Dice in percent, with its standard error."""
    return f"{100 * score['mean']:.1f} ± {100 * score['standard_error']:.1f}"


def number(score: dict[str, float]) -> str:
    """A number with its standard error."""
    return f"{score['mean']:.3f} ± {score['standard_error']:.3f}"


def p_value(p: float) -> str:
    """A p-value, bold where significant."""
    text = f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
    return f"**{text}**" if p < SIGNIFICANT else text


def how_it_was_made(results: dict[str, dict[str, Any]], options: str = "") -> list[str]:
    """Command, machine, steps and time."""
    lines = []
    for half, found in results.items():
        times = ", ".join(f"{TITLES[name]} {cpu_time(run)}" for name, run in found["runs"].items())
        lines.append(f"CPU time of training on {HALVES[half]}: {times}.")
    first = next(iter(results.values()))
    training = first["config"]["training"]
    command = f"python experiments/lidc/run.py --data DATA {options}".rstrip()
    return [
        f"`{command}` on a machine with {first['machine']} "
        f"({first['device']}), one thread, torch {first['torch']}: {training['steps']} steps of "
        f"{training['batch']} slices for each model. {' '.join(lines)}"
    ]


def cpu_time(run: dict[str, Any]) -> str:
    """Of a training; of what is known of one that was stopped and went on."""
    said = f"{run['cpu_seconds']:.0f} s"
    if "resumed_at" in run:
        said += f" for the last {run['steps'] - run['resumed_at']} steps"
    return said


def shipped_table(summary: dict[str, Any]) -> list[str]:
    """The shipped model, from its own evaluation."""
    (model,) = summary["models"]
    metrics = model["metrics"]
    counts = summary["settings"]["counts"]
    found = [metrics[f"ged_{n}"] for n in counts] + [metrics["ged"]]
    cells = (f"{one['mean']:.3f} ({one['low']:.3f}–{one['high']:.3f})" for one in found)
    heads = [
        f"{n} samples" if n > 1 else "1 sample" for n in (*counts, summary["settings"]["samples"])
    ]
    return [
        "### The shipped model",
        "",
        f"| GED with | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
        f"| {model['label']} | {' | '.join(cells)} |",
        "",
        f"{model['steps']} steps. DSC {percent(metrics['dice'])}, marked "
        f"{percent(metrics['dice_marked'])}; DSC of the mean probability "
        f"{percent(metrics[_OF_PROBABILITY[0]])}, marked {percent(metrics[_OF_PROBABILITY[1]])}; "
        f"best {100 * metrics['best_dice']['mean']:.1f}; "
        f"diversity {number(metrics['sample_diversity'])}; matched IoU "
        f"{metrics['matched_iou']['mean']:.3f}; GED, unbiased, {metrics['ged_u']['mean']:.3f}; "
        f"ECE {model['ece_pooled']['mean']:.4f}.",
    ]


def draw_curves(results: dict[str, dict[str, Any]]) -> None:
    """GED against the number of samples (Figure 4 of Kohl et al.)."""
    mpl.rcParams.update({"font.size": 9, "savefig.dpi": 150, "savefig.bbox": "tight"})
    FIGURES.mkdir(exist_ok=True)
    figure, axes = plt.subplots(
        1,
        len(results),
        figsize=(4.2 * len(results), 3.4),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (half, found) in zip(axes[0], results.items(), strict=True):
        counts = found["config"]["counts"]
        for index, (name, scores) in enumerate(shown(found)):
            values = [scores[f"ged_{n}"] for n in counts]
            # Side by side, so that the intervals do not hide each other.
            places = [place + 0.06 * (index - 3.5) for place in range(len(counts))]
            means = [one["mean"] for one in values]
            below = [one["mean"] - one["low"] for one in values]
            above = [one["high"] - one["mean"] for one in values]
            axis.errorbar(
                places,
                means,
                (below, above),
                fmt=".-",
                color=COLORS[name],
                linewidth=1,
                capsize=2,
                label=TITLES[name],
            )
        axis.set_xticks(range(len(counts)), [str(n) for n in counts])
        axis.set(title=f"trained on {HALVES[half]}", xlabel="samples")
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylabel("GED")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    save(figure, FIGURES / "lidc-ged.png")


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure without the date and the version that would change at every run."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)
