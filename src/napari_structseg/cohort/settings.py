"""What an evaluation is asked for, checked before data and models are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.cohort.draws import DrawSettings
from napari_structseg.cohort.rows import SUFFIX
from napari_structseg.devices import AUTO
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.evaluation.metrics import METRICS, OF_EACH_CLASS
from napari_structseg.evaluation.overlaps import Absent
from napari_structseg.named_controls import make_controls
from napari_structseg.results.request import SAMPLES_MAX

COMPARED = ("ged", "dice")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated, and how.

    Attributes
    ----------
    dataset
        Folder of a data set as `structseg train` reads it.
    models
        Names of shipped models, or files.
    predictions
        Folders of predictions of other programs, see :class:`Predictions`.
    names
        What to call these; empty: as their folders.
    selection
        Which cases and raters.
    drawing
        How samples are drawn.
    counts
        Numbers of samples for which the energy distance is given besides all of them.
    absent
        What a class counts that neither of two segmentations contains.
    tolerance
        Of the surface Dice, in mm.
    compared
        Metrics by which models are compared.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...
    """

    dataset: Path
    models: tuple[str, ...]
    drawing: DrawSettings
    selection: Selection = field(default_factory=Selection)
    counts: tuple[int, ...] = ()
    absent: Absent = "agree"
    tolerance: float = 1.0
    compared: tuple[str, ...] = COMPARED
    device: str = AUTO
    predictions: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()


def check_settings(evaluation: Evaluation) -> None:
    """Raise ConfigError for settings that make no sense for any data set."""
    drawing = evaluation.drawing
    n_samples = drawing.n_samples
    if not (1 <= n_samples <= SAMPLES_MAX and 1 <= drawing.batch <= SAMPLES_MAX):
        raise ConfigError(
            f"--samples and --batch must be 1 or more, up to {SAMPLES_MAX}, but they are "
            f"{n_samples} and {drawing.batch}."
        )
    wrong = [n for n in evaluation.counts if not 1 <= n <= n_samples]
    if wrong:
        raise ConfigError(
            f"--counts must lie between 1 and the {n_samples} samples that are drawn, but it has "
            f"{', '.join(map(str, wrong))}. Draw more with --samples, or leave them out."
        )
    if n_samples < 2 and "ged_u" in evaluation.compared:
        raise ConfigError("--compare ged_u needs two samples or more. Draw more with --samples.")
    make_controls(
        (),
        seed=drawing.seed,
        temperature=1.0 if drawing.temperature is None else drawing.temperature,
        iterations=drawing.iterations or 0,
    )
    if not evaluation.models and not evaluation.predictions:
        raise ConfigError(
            "No model was given. Name at least one with --model, or a folder with --predictions."
        )
    if evaluation.names and len(evaluation.names) != len(evaluation.predictions):
        raise ConfigError(
            f"--name gives {len(evaluation.names)} names for {len(evaluation.predictions)} folders "
            "of --predictions. Give one for each, or none."
        )
    if not 0 <= evaluation.tolerance < math.inf:
        raise ConfigError(
            f"--tolerance must be a number of mm, 0 or more, but it is {evaluation.tolerance:g}."
        )
    limit = evaluation.selection.limit
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be 1 or more, but it is {limit}.")
    offered = {*METRICS, *(f"ged_{n}" for n in evaluation.counts)}
    unknown = [name for name in evaluation.compared if name.partition(": ")[0] not in offered]
    if unknown:
        raise ConfigError(
            f"--compare names {', '.join(map(repr, unknown))}, which is no metric. The metrics "
            f"are: {', '.join(sorted(offered))}."
        )


def check_compared(evaluation: Evaluation, cohort: Cohort) -> None:
    """Raise ConfigError if models are to be compared by what this data set cannot have."""
    foreground = cohort.class_names[1:]
    for name in evaluation.compared:
        metric, colon, of_class = name.partition(": ")
        if colon and metric not in OF_EACH_CLASS:
            raise ConfigError(
                f"--compare names {name!r}, but {metric} is of all classes together. Name it alone."
            )
        if colon and (len(foreground) == 1 or of_class not in foreground):
            raise ConfigError(
                f"--compare names {name!r}, but the foreground of the data set is "
                f"{', '.join(foreground)}. Name one of several classes, or the metric alone."
            )
    if "ged_u" in evaluation.compared and all(len(case.raters) < 2 for case in cohort.cases):
        raise ConfigError("--compare ged_u needs two raters or more, but every case has one.")


def check_outputs(out: Path, *, resume: bool, overwrite: bool) -> Path:
    """The file for rows beside the one for the summary; refuses what would be lost.

    Raises
    ------
    ConfigError
        If the name does not end in .json, or both ways to go on were chosen.
    InputError
        If results are there already, or the folder is not.
    """
    if out.suffix != ".json":
        raise ConfigError(f"--json needs a file named *.json, but it is {out.name!r}.")
    if resume and overwrite:
        raise ConfigError("Choose either --resume or --overwrite.")
    if not out.parent.is_dir():
        raise InputError(f"There is no folder {out.parent} for {out.name}. Create it first.")
    rows = out.with_name(out.stem + SUFFIX)
    if resume and not rows.exists():
        raise InputError(
            f"There is no {rows.name} in {out.parent} to continue. Start without --resume, or name "
            "the file of the evaluation to continue."
        )
    there = [path.name for path in (out, rows) if path.exists()]
    if there and not (resume or overwrite):
        raise InputError(
            f"{out.parent} already holds {' and '.join(there)}. Continue that evaluation with "
            "--resume, replace it with --overwrite, or choose another file for --json."
        )
    return rows


def command_of(evaluation: Evaluation, out: Path) -> list[str]:
    """A command that does the same, with files by name alone: folders are another machine's."""
    selection, drawing = evaluation.selection, evaluation.drawing
    options: dict[str, object] = {
        "--samples": drawing.n_samples,
        "--counts": evaluation.counts,
        "--seed": drawing.seed,
        "--temperature": drawing.temperature,
        "--iterations": drawing.iterations,
        "--refine": drawing.refine,
        "--split": selection.split,
        "--table": selection.table and selection.table.name,
        "--patient-separator": selection.patient_separator,
        "--rater": selection.raters,
        "--limit": selection.limit,
        "--absent": evaluation.absent,
        "--tolerance": evaluation.tolerance,
        "--compare": evaluation.compared,
        "--json": out.name,
    }
    named: dict[str, object] = {
        "--model": tuple(Path(name).name for name in evaluation.models),
        "--predictions": tuple(path.resolve().name for path in evaluation.predictions),
        "--name": evaluation.names,
    }
    command = ["structseg", "evaluate", evaluation.dataset.resolve().name, *_words(named)]
    command += ["--mixed-raters"] * selection.mixed_raters
    return [*command, *_words(options)]


def _words(options: dict[str, object]) -> Iterator[str]:
    """Options as they are typed, without those that were left open."""
    for name, value in options.items():
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if values:
            yield from (name, *map(str, values))
