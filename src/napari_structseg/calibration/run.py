"""`structseg calibrate`, and the same from Python: from labelled cases to a calibrated model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from safetensors import safe_open

from napari_structseg.calibration.fit import Search, fit
from napari_structseg.calibration.points import CasePoints, check_points, points_of
from napari_structseg.calibration.scores import SCORES
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.cohort.draws import DrawSettings
from napari_structseg.cohort.facts import Report
from napari_structseg.cohort.run import check_classes
from napari_structseg.devices import AUTO, resolve_device
from napari_structseg.distributions import Spread, region_shape
from napari_structseg.errors import Cancelled, ConfigError, InputError
from napari_structseg.io.weights import METADATA_KEY, SUFFIX, write_tensors
from napari_structseg.models import CalibrationSpec, ModelSpec
from napari_structseg.models.calibration_spec import ScoreName
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.source import open_source
from napari_structseg.results.request import SAMPLES_MAX, FilePath

# As many as the dock's ranges of volumes are of.
SAMPLES = 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is calibrated, and on what.

    Attributes
    ----------
    dataset
        Folder of a data set as `structseg train` reads it.
    model
        Name of a shipped model, or a file.
    out
        The file to write, ``*.safetensors``.
    score
        What is minimised, see `calibration.scores`.
    n_samples, seed
        Samples of each case, and from which their seeds follow.
    by_class
        Whether classes have scales of their own, beside the temperature.
    selection
        Which cases and raters.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...
    """

    dataset: Path
    model: str
    out: Path
    score: ScoreName = "likelihood"
    n_samples: int = SAMPLES
    seed: int = 7
    by_class: bool = True
    selection: Selection = field(default_factory=Selection)
    device: str = AUTO


def calibrate(
    dataset: FilePath,
    model: FilePath,
    out: FilePath,
    *,
    score: ScoreName = "likelihood",
    samples: int = SAMPLES,
    seed: int = 7,
    by_class: bool = True,
    split: str | None = None,
    table: FilePath | None = None,
    raters: Sequence[str] = (),
    mixed_raters: bool = False,
    limit: int | None = None,
    device: str = AUTO,
    overwrite: bool = False,
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CalibrationSpec:
    """Fit the spread of a model's samples to labelled cases, as ``structseg calibrate`` does.

    Temperature and class scales with the lowest score are written into a copy of the model;
    prediction, dock and evaluation start there. The network is not changed.

    Parameters
    ----------
    dataset
        Folder of a data set as ``structseg train`` reads it. Use cases that the model was not
        trained on.
    model
        Name of a shipped model, or a .safetensors file.
    out
        The file to write, ``*.safetensors``.
    score
        What is minimised: ``likelihood`` of the labels of voxels, ``crps`` of the volumes of
        classes, or ``ged`` between samples and raters.
    samples, seed
        Samples of each case, and from which their seeds follow.
    by_class
        Fit scales of the classes, beside the temperature.
    split, table, raters, mixed_raters, limit
        Which cases and raters, see docs/evaluation.md.
    device
        ``auto``, ``cpu``, ``cuda:0``, ...
    overwrite
        Replace a file that is there.
    report
        Told what is being done, and how much of it is.
    cancelled
        Asked often whether to stop.

    Returns
    -------
    calibration
        What was written: temperature, class scales, and every score before and after.

    Raises
    ------
    ConfigError, InputError, WeightsError, MemoryLimitError
        If settings, data or model do not fit, before anything is computed.
    Cancelled
        When ``cancelled`` said so. Nothing was written.

    Examples
    --------
    >>> found = calibrate("LIDC", "lung-nodule", "calibrated.safetensors")  # doctest: +SKIP
    """
    selection = Selection(
        table=None if table is None else Path(table),
        split=split,
        raters=tuple(raters),
        mixed_raters=mixed_raters,
        limit=limit,
    )
    wanted = Calibration(
        Path(dataset), str(model), Path(out), score, samples, seed, by_class, selection, device
    )
    return run(wanted, overwrite=overwrite, report=report, cancelled=cancelled)


def run(
    wanted: Calibration,
    *,
    overwrite: bool = False,
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CalibrationSpec:
    """Calibrate a model, see :func:`calibrate`."""
    tell = report or _tell_nobody
    _check(wanted, overwrite=overwrite)
    source = open_source(wanted.model, resolve_device(wanted.device))
    spec = source.spec
    if not isinstance(spec, ModelSpec):
        raise AssertionError("a model is opened, not maps")
    cohort = Cohort(wanted.dataset, wanted.selection)
    check_classes(spec, cohort.class_names)
    if spec.kind == "point":
        raise _no_spread(spec)
    _check_cases(wanted, cohort, source.predictor, tell)
    cases = list(_drawn(wanted, cohort, source.predictor, tell, cancelled))
    if not any(case.uncertain.any() for case in cases):
        raise _no_spread(spec)
    score = SCORES[wanted.score]
    spread = fit(
        lambda tried: score(cases, tried),
        Search(spec.n_classes, cases[0].tempers_noise, wanted.by_class),
        lambda done, total: tell("Fitting", done, total),
        cancelled,
    )
    found = CalibrationSpec(
        temperature=spread.temperature,
        class_scale=spread.class_scale,
        score=wanted.score,
        before=_scores(cases, Spread.neutral(spec.n_classes)),
        after=_scores(cases, spread),
        data=wanted.dataset.resolve().name[:200],
        cases=len(cases),
        samples=wanted.n_samples,
        seed=wanted.seed,
        software=version("napari-structseg"),
    )
    write_spec(source.path, wanted.out, spec.model_copy(update={"calibration": found}))
    return found


def write_spec(model: Path, out: Path, spec: ModelSpec) -> None:
    """Write a model's tensors, bit for bit, with another specification.

    Parameters
    ----------
    model
        A file that was loaded before, so it is known to be sound.
    out
        The file to write; it may be the same.
    spec
        Of the same network.

    Raises
    ------
    InputError
        If the system refuses to write there.
    """
    with safe_open(model, framework="pt") as file:
        metadata = file.metadata() or {}
        # A copy: the file may be the one that is replaced.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    write_tensors(out, tensors, {**metadata, METADATA_KEY: spec.model_dump_json()})


def _check(wanted: Calibration, *, overwrite: bool) -> None:
    """Raise for settings that make no sense for any data set."""
    if not 2 <= wanted.n_samples <= SAMPLES_MAX:
        raise ConfigError(
            f"--samples must be 2 or more, up to {SAMPLES_MAX}, but it is {wanted.n_samples}."
        )
    if not 0 <= wanted.seed < 2**31:
        raise ConfigError(f"--seed must be 0 or more, below 2^31, but it is {wanted.seed}.")
    limit = wanted.selection.limit
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be 1 or more, but it is {limit}.")
    if wanted.score not in SCORES:
        raise ConfigError(f"--score must be one of {', '.join(SCORES)}, but it is {wanted.score}.")
    out = wanted.out
    if out.suffix != SUFFIX:
        raise ConfigError(f"--out needs a file named *{SUFFIX}, but it is {out.name!r}.")
    if not out.parent.is_dir():
        raise InputError(f"There is no folder {out.parent} for {out.name}. Create it first.")
    if out.exists() and not overwrite:
        raise InputError(
            f"{out} is there already. Choose another name, or replace it with --overwrite."
        )


def _check_cases(
    wanted: Calibration, cohort: Cohort, predictor: ImagePredictor, tell: Report
) -> None:
    """Read every case once, and refuse what cannot be used before anything is computed."""
    n_points, is_marked = 0, False
    for done, case in enumerate(cohort, start=1):
        predictor.check(case.image)
        n_points += math.prod(region_shape(case.image.spatial_shape, points_of(case)))
        is_marked |= bool(case.raters.any())
        tell("Checking the data set", done, len(cohort))
    if not is_marked:
        raise ConfigError(
            "Cases in which something is marked were expected, but nobody marked anything in "
            f"{wanted.dataset}. Choose other cases."
        )
    check_points(n_points, predictor.spec.n_classes, wanted.n_samples, f"{len(cohort)} cases")


def _drawn(
    wanted: Calibration,
    cohort: Cohort,
    predictor: ImagePredictor,
    tell: Report,
    cancelled: Callable[[], bool] | None,
) -> list[CasePoints]:
    """The samples of every case, at the voxels that are looked at."""
    drawing = DrawSettings(wanted.n_samples, wanted.seed)
    cases = []
    for done, case in enumerate(cohort, start=1):
        if cancelled is not None and cancelled():
            raise Cancelled("The calibration was cancelled. Nothing was written.")
        distribution = predictor.predict(case.image, cancelled=cancelled)
        seed = drawing.controls(case.name, 0).seed
        cases.append(
            CasePoints(distribution, case, cohort.unit, seed=seed, n_samples=wanted.n_samples)
        )
        tell("Drawing samples", done, len(cohort))
    return cases


def _scores(cases: Sequence[CasePoints], spread: Spread) -> dict[str, float]:
    """Every score, to six digits."""
    return {name: float(f"{score(cases, spread):.6g}") for name, score in SCORES.items()}


def _no_spread(spec: ModelSpec) -> ConfigError:
    return ConfigError(
        f"A model whose samples differ was expected, but {spec.name!r} is deterministic on these "
        "cases: there is no spread to calibrate. Choose another model."
    )


def _tell_nobody(what: str, done: int, total: int) -> None:
    """Report nothing."""
