"""`structseg calibrate`, and the same from Python: from labelled cases to a calibrated model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import safe_open

from napari_structseg.calibration.domain import LEAST_CASES, fit_domain
from napari_structseg.calibration.fit import Search, fit
from napari_structseg.calibration.points import CasePoints, check_points
from napari_structseg.calibration.scores import SCORES
from napari_structseg.calibration.settings import SAMPLES, Calibration, Only, check_settings
from napari_structseg.cohort.cases import Cohort, Selection
from napari_structseg.cohort.draws import DrawSettings
from napari_structseg.cohort.facts import Report
from napari_structseg.cohort.loaded import check_classes
from napari_structseg.data.sources import MM
from napari_structseg.devices import AUTO, resolve_device
from napari_structseg.distributions import Spread, region_shape
from napari_structseg.errors import Cancelled, ConfigError
from napari_structseg.io.weights import METADATA_KEY, write_tensors
from napari_structseg.models import CalibrationSpec, ModelSpec
from napari_structseg.models.calibration_spec import ScoreName
from napari_structseg.prediction.domain_statistics import Key, lattice_in_box, statistics_of
from napari_structseg.prediction.protocol import ImagePredictor
from napari_structseg.prediction.source import open_source
from napari_structseg.results.request import FilePath


def calibrate(
    dataset: FilePath,
    model: FilePath,
    out: FilePath,
    *,
    score: ScoreName = "likelihood",
    samples: int = SAMPLES,
    seed: int = 7,
    by_class: bool = True,
    only: Only | None = None,
    split: str | None = None,
    table: FilePath | None = None,
    raters: Sequence[str] = (),
    mixed_raters: bool = False,
    limit: int | None = None,
    device: str = AUTO,
    overwrite: bool = False,
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ModelSpec:
    """Fit a model to labelled cases that it serves, as ``structseg calibrate`` does.

    Temperature and class scales with the lowest score are written into a copy of the model;
    prediction, dock and evaluation start there. So are the ranges of a few statistics, by which
    images are known that the model was not made for. The network is not changed.

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
    only
        ``spread``: fit temperature and class scales alone; ``domain``: the ranges of the
        statistics alone; None: both.
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
    spec
        What was written. ``spec.calibration`` has temperature, class scales, and every score before
        and after; ``spec.domain`` the statistics, or is None where there were too few cases.

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
        Path(dataset),
        str(model),
        Path(out),
        score,
        samples,
        seed,
        by_class,
        only,
        selection,
        device,
    )
    return run(wanted, overwrite=overwrite, report=report, cancelled=cancelled)


def run(
    wanted: Calibration,
    *,
    overwrite: bool = False,
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ModelSpec:
    """Calibrate a model, see :func:`calibrate`."""
    tell = report or _tell_nobody
    check_settings(wanted, overwrite=overwrite)
    source = open_source(wanted.model, resolve_device(wanted.device), precision="float32")
    spec = source.spec
    if not isinstance(spec, ModelSpec):
        raise AssertionError("a model is opened, not maps")
    cohort = Cohort(wanted.dataset, wanted.selection)
    check_classes(spec, cohort.class_names)
    fits_spread = wanted.only != "domain"
    if spec.kind == "point" and fits_spread:
        raise _no_spread(spec)
    _check_cases(wanted, cohort, source.predictor, tell)
    cases, statistics = _drawn(wanted, cohort, source.predictor, tell, cancelled)
    fitted: dict[str, Any] = {}
    if fits_spread:
        fitted["calibration"] = _calibration(wanted, spec, cases, tell, cancelled)
    if wanted.only != "spread":
        unit = "mm²" if spec.dimensions == 2 else "mL"
        fitted["domain"] = fit_domain(statistics, wanted.data_name, volume_unit=unit)
        if fitted["domain"] is None and not fits_spread:
            raise ConfigError(
                f"At least {LEAST_CASES} cases were expected to say what images the model serves, "
                f"but there are {len(cohort)}. Give more."
            )
    written = spec.model_copy(update=fitted)
    write_spec(source.path, wanted.out, written)
    return written


def _calibration(
    wanted: Calibration,
    spec: ModelSpec,
    cases: Sequence[CasePoints],
    tell: Report,
    cancelled: Callable[[], bool] | None,
) -> CalibrationSpec:
    """Fit temperature and class scales."""
    if not any(case.uncertain.any() for case in cases):
        raise _no_spread(spec)
    score = SCORES[wanted.score]
    spread = fit(
        lambda tried: score(cases, tried),
        Search(spec.n_classes, cases[0].tempers_noise, wanted.by_class),
        lambda done, total: tell("Fitting", done, total),
        cancelled,
    )
    return CalibrationSpec(
        temperature=spread.temperature,
        class_scale=spread.class_scale,
        score=wanted.score,
        before=_scores(cases, Spread.neutral(spec.n_classes)),
        after=_scores(cases, spread),
        data=wanted.data_name,
        cases=len(cases),
        samples=wanted.n_samples,
        seed=wanted.seed,
        software=version("napari-structseg"),
    )


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


def _check_cases(
    wanted: Calibration, cohort: Cohort, predictor: ImagePredictor, tell: Report
) -> None:
    """Read every case once, and refuse what cannot be used before anything is computed."""
    n_points, is_marked = 0, False
    for done, case in enumerate(cohort, start=1):
        predictor.check(case.image)
        points, _ = lattice_in_box(case.image.data, case.raters)
        n_points += math.prod(region_shape(case.image.spatial_shape, points))
        is_marked |= bool(case.raters.any())
        tell("Checking the data set", done, len(cohort))
    if not is_marked:
        raise ConfigError(
            "Cases in which something is marked were expected, but nobody marked anything in "
            f"{wanted.dataset}. Choose other cases."
        )
    if wanted.only != "domain":
        n_classes = predictor.spec.n_classes
        check_points(n_points, n_classes, wanted.n_samples, f"{len(cohort)} cases")


def _drawn(
    wanted: Calibration,
    cohort: Cohort,
    predictor: ImagePredictor,
    tell: Report,
    cancelled: Callable[[], bool] | None,
) -> tuple[list[CasePoints], list[dict[Key, float]]]:
    """Of every case the samples, at the voxels that are looked at, and the statistics."""
    drawing, spec = DrawSettings(wanted.n_samples, wanted.seed), predictor.spec
    cases, statistics = [], []
    for done, case in enumerate(cohort, start=1):
        if cancelled is not None and cancelled():
            raise Cancelled("The calibration was cancelled. Nothing was written.")
        distribution = predictor.predict(case.image, cancelled=cancelled)
        seed = drawing.controls(case.name, 0).seed
        if wanted.only != "domain":
            n_samples = wanted.n_samples
            cases.append(
                CasePoints(distribution, case, cohort.unit, seed=seed, n_samples=n_samples)
            )
        if wanted.only != "spread" and isinstance(spec, ModelSpec):
            found = statistics_of(spec, case.image, distribution)
            if cohort.unit != MM:
                found = {key: value for key, value in found.items() if key[0] != "volume"}
            statistics.append(found)
        tell("Drawing samples", done, len(cohort))
    return cases, statistics


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
