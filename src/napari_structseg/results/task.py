"""One prediction: checked, run, written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.controls import Controls
from napari_structseg.devices import resolve_device
from napari_structseg.distributions import (
    DomainCheck,
    LogitDistribution,
    Region,
    SampledDistribution,
    Strokes,
    region_shape,
    whole,
)
from napari_structseg.distributions.conditioning.corrected import (
    Corrected,
    cannot_be_conditioned,
)
from napari_structseg.distributions.conditioning.settings import Conditioning
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.exports.dicom.segmentation import Maker
from napari_structseg.exports.report.page import write_report
from napari_structseg.exports.samples import SampleSet
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels
from napari_structseg.io.references import FileReference, refer_to, refer_to_parts, voxel_hash
from napari_structseg.named_controls import make_controls
from napari_structseg.prediction.region_of_interest import embedded, image_inside
from napari_structseg.prediction.source import Source, open_source
from napari_structseg.priors.contrast import CRFSpec, offsets_of
from napari_structseg.refine.graph_cut.labels import CutLabels
from napari_structseg.refine.graph_cut.memory import check_cut_memory
from napari_structseg.results.files import (
    VOLUMES_NAME,
    check_disk,
    check_report,
    prepare_folder,
    remove_results,
    render_results,
)
from napari_structseg.results.formats import ResultWriter, check_format
from napari_structseg.results.labelling import volume_table, write_text
from napari_structseg.results.recipe import Recipe, make_recipe
from napari_structseg.results.recipe_files import (
    check_prior,
    check_same,
    check_strokes,
    write_recipe,
)
from napari_structseg.results.reporting import content_of
from napari_structseg.results.request import CUT, PredictionRequest
from napari_structseg.results.stroke_files import read_strokes

logger = logging.getLogger(__name__)

Report = Callable[[str, float], None]
"""Told what is being done, and which fraction of it is."""


@dataclass(frozen=True, slots=True)
class Task:
    """A prediction that has passed every check that can be made before it runs.

    Attributes
    ----------
    request
        With nothing left open.
    source
        Gives the distribution.
    controls
        What the request says about labels.
    image, images
        What is segmented, and references to its files.
    strokes
        What is known of it, on the voxels that are predicted; None: nothing.
    format_version
        Of the recipe: it says how samples are numbered.
    """

    request: PredictionRequest
    source: Source
    controls: Controls
    image: Image
    images: tuple[FileReference, ...]
    strokes: Strokes | None = None
    format_version: Literal[1, 2] = 2

    def run(self, report: Report | None = None) -> Recipe:
        """Compute and write the results, the recipe last.

        Raises
        ------
        InputError
            If mean field leaves the finite numbers, or the system refuses to write.
        MemoryLimitError
            If the device runs out of memory.
        """
        tell = report or _tell_nobody
        request, source, outputs = self.request, self.source, {}
        with _torch_threads(request.threads):
            distribution = source.predictor.predict(
                self.image, report=lambda fraction: tell("Running the model", fraction)
            )
            domain = _domain_of(distribution)
            if domain is not None and domain.is_outside:
                logger.warning("WARNING: %s", domain.message)
            if self.strokes is not None:
                distribution = _given(distribution, self.strokes, self.image)
            results = render_results(
                distribution,
                self.controls,
                request.samples,
                source.prior(self.image),
                cut=self._cut(distribution),
                first_number=self.format_version - 1,
                with_probabilities=request.save_probabilities,
            )
            region = source.region(self.image)
            writer = self._writer()
            counts: list[npt.NDArray[np.int64]] = []
            gathered: SampleSet | None = None
            for done, (plain, part) in enumerate(results, start=1):
                array = _on_grid(part, region, self.image.spatial_shape)
                if done == 1:
                    # Mean field may fail on its way to the first result.
                    remove_results(request.out)
                name = writer.write(plain, array)
                outputs[name] = voxel_hash(array)
                if done <= request.samples + 1:
                    counts.append(np.bincount(array.ravel(), minlength=distribution.n_classes))
                    if request.gathers_samples and gathered is None:
                        # The array is overwritten by the next.
                        gathered = SampleSet(self.image, distribution.n_classes, array.copy())
                    elif gathered is not None:
                        gathered.add(array)
                tell("Writing results", done / request.n_files)
        write_text(request.out / VOLUMES_NAME, self._volumes(counts, domain))
        recipe = recipe_of(
            request,
            source,
            self.images,
            outputs,
            domain=domain,
            format_version=self.format_version,
        )
        if gathered is not None:
            writer.write_hypotheses(gathered)
            if request.sr:
                writer.write_measurements(gathered)
        if request.report_file is not None and gathered is not None:
            content = content_of(recipe, self.image, gathered, source.spec, domain)
            write_report(request.out / request.report_file, content)
        write_recipe(request.out, recipe)
        return recipe

    def _writer(self) -> ResultWriter:
        """Writes results in the format that was asked for."""
        request, spec, model = self.request, self.source.spec, self.source.model
        maker = Maker(spec.name) if model is None else Maker(spec.name, model.sha256[:16])
        return ResultWriter(
            request.out, request.format, self.image, spec.classes, maker, request.keep_patient
        )

    def _cut(self, distribution: LogitDistribution) -> CutLabels | None:
        """What labels are cut by; None: nothing asked for it."""
        if not self.controls.cuts:
            return None
        seen = image_inside(self.image, self.source.region(self.image))
        return CutLabels(distribution, seen, self.strokes)

    def _volumes(self, counts: Sequence[npt.NDArray[np.int64]], domain: DomainCheck | None) -> str:
        """The table of volumes: of the mean, and the range of the samples, all as written."""
        volumes = np.array(counts, np.float64) * np.float64(self.image.voxel_volume_ml)
        classes = self.source.spec.classes
        return volume_table(counts[0], self.image, classes, volumes[1:], domain=domain)


def recipe_of(
    request: PredictionRequest,
    source: Source,
    images: Sequence[FileReference],
    outputs: Mapping[str, str],
    *,
    domain: DomainCheck | None = None,
    format_version: Literal[1, 2] = 2,
) -> Recipe:
    """The recipe of a request with nothing left open, see :func:`make_recipe`."""
    return make_recipe(
        request,
        model=source.model,
        probabilities=[*source.probabilities.values()],
        members=[*source.members.values()],
        prior_source=source.prior_source,
        images=images,
        outputs=outputs,
        strokes=None if request.strokes is None else refer_to(request.strokes),
        domain=domain,
        format_version=format_version,
    )


def source_of(request: PredictionRequest) -> Source:
    """What gives the distribution, as a request names it.

    A model, and maps of probabilities, serve other images, too; members belong to their image.

    Raises
    ------
    ConfigError, InputError, MemoryLimitError, WeightsError
        As :func:`prepare`, of the model alone.
    """
    return open_source(
        request.model,
        resolve_device(request.device),
        probabilities=request.probabilities,
        members=request.members,
        members_as=request.members_as,
        case=request.images[0].name,
        augment=request.augment,
        passes=request.passes,
        prior=request.prior,
        roi=request.roi,
        window=request.window,
        precision=request.precision,
    )


def prepare(
    request: PredictionRequest, wanted: Recipe | None = None, source: Source | None = None
) -> Task:
    """Check all that can go wrong because of what came in, before anything is computed.

    Parameters
    ----------
    request
        What to predict.
    wanted
        The recipe that model and image must be those of.
    source
        What :func:`source_of` gave for the same request; None: it is opened.

    Raises
    ------
    ConfigError
        If a control, the device or the MRF does not fit.
    InputError
        If the image or the folder cannot be used, or something is not the recipe's.
    MemoryLimitError
        If the work does not fit into memory.
    WeightsError
        If the model cannot be used.
    """
    source = source or source_of(request)
    has_prior = source.iterations is not None
    if wanted is not None:
        _check_source(source, wanted)
        check_prior(wanted, source.spec.name, has_prior=has_prior and not request.cut)
    controls = controls_of(request, source)
    image = read_channels(request.images, series=request.series)
    images = _refer_to_image(image)
    if wanted is not None:
        # First: another image may not even suit the model.
        check_same("image", images, wanted.images)
    check_format(request.format, image)
    strokes = _strokes_of(request, source, image, wanted)
    source.predictor.check(image, refined=has_prior and controls.refines)
    if controls.cuts:
        sizes = region_shape(
            image.spatial_shape, source.region(image) or whole(image.spatial_shape)
        )
        offsets = offsets_of(len(sizes), controls.crf.neighbours)
        check_cut_memory(source.spec.n_classes, sizes, len(offsets))
    drawn = () if request.strokes is None else (request.strokes,)
    given = (Path(path) for path in source.members)
    sources = () if image.source is None else image.source.files
    inputs = (*sources, *request.probabilities, *given, *drawn)
    prepare_folder(request.out, inputs, overwrite=request.overwrite)
    if request.report_file is not None:
        check_report(request.out / request.report_file, overwrite=request.overwrite)
    check_disk(request.out, image.spatial_shape, request.samples)
    settled = resolved(request, source, controls)
    version = 2 if wanted is None else wanted.format_version
    return Task(settled, source, controls, image, images, strokes, version)


def _refer_to_image(image: Image) -> tuple[FileReference, ...]:
    """References to the files of an image; what is unusual about them is logged."""
    if image.source is None:
        raise AssertionError("an image that was read from files says which")
    for notice in image.source.notices:
        logger.warning("NOTE: %s", notice)
    return refer_to_parts(image.source)


def _strokes_of(
    request: PredictionRequest, source: Source, image: Image, wanted: Recipe | None
) -> Strokes | None:
    """What is known of the voxels that are predicted, from the file; None: there is none."""
    found = [] if request.strokes is None else [refer_to(request.strokes)]
    if wanted is not None:
        check_strokes(wanted, found)
    if request.strokes is None:
        return None
    n_classes = len(source.spec.class_names)
    strokes = read_strokes(request.strokes, image, n_classes, request.stroke_labels)
    region = source.region(image)
    inside = strokes if region is None else strokes.inside(region)
    if not len(inside):
        raise InputError(
            f"Strokes within the slices that are predicted were expected, but those in "
            f"{request.strokes} lie elsewhere. Draw some there, or name other slices."
        )
    return inside


def _given(distribution: LogitDistribution, strokes: Strokes, image: Image) -> SampledDistribution:
    """The distribution once strokes are known; how well it explains them is logged."""
    if not isinstance(distribution, SampledDistribution):
        raise cannot_be_conditioned(distribution)
    given = distribution.conditioned(strokes, Conditioning.on_grid(image.spacing))
    if isinstance(given, Corrected):
        told = given.explanation
        logger.info("The model explains %d of %d stroke voxels.", told.n_explained, told.n_voxels)
    return given


def controls_of(request: PredictionRequest, source: Source) -> Controls:
    """The controls of a request: what it leaves open is the MRF's or the default.

    Raises
    ------
    ConfigError
        If a value is out of range, a class is unknown, or an MRF is to be controlled and there
        is none.
    """
    of_mrf: dict[str, Any] = request.of_mrf
    if request.cut:
        learned = (source.spec.crf or CRFSpec()).model_dump()
        of_mrf = {"coupling": "crf", "crf": {**learned, **request.of_cut}}
    elif source.iterations is not None:
        of_mrf = {"iterations": source.iterations, **of_mrf}
    elif of_mrf:
        raise ConfigError(
            f"A model with a prior was expected for {', '.join(of_mrf)}, but {source.spec.name!r} "
            "has none. Leave that out, or name a model that was trained with a prior, with "
            "--model or --prior: 'structseg info' tells."
        )
    of_samples = {"seed": request.seed, "temperature": request.temperature}
    given = {name: value for name, value in of_samples.items() if value is not None}
    return make_controls(
        source.spec.class_names,
        source.spec.calibrated,
        class_scale=request.class_scale,
        **given,
        **of_mrf,
    )


def _domain_of(distribution: LogitDistribution) -> DomainCheck | None:
    return distribution.domain if isinstance(distribution, SampledDistribution) else None


def _on_grid(
    part: npt.NDArray[Any], region: Region | None, spatial_shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """What was computed for a region on the grid of the image; elsewhere is background."""
    if part.ndim == len(spatial_shape):
        return embedded(part, region, spatial_shape)
    stack = np.stack([embedded(one, region, spatial_shape) for one in part])
    if region is not None:
        elsewhere = np.ones(spatial_shape, bool)
        elsewhere[region] = False
        stack[0, elsewhere] = 1
    return stack


def resolved(request: PredictionRequest, source: Source, controls: Controls) -> PredictionRequest:
    """The same request with nothing left open, as a recipe needs it."""
    names = source.spec.class_names
    settled: dict[str, Any] = {
        "seed": controls.seed,
        "temperature": controls.temperature,
        "class_scale": dict(zip(names, controls.class_scale or (1.0,) * len(names), strict=True)),
        "device": str(source.predictor.device),
        "precision": source.predictor.precision,
        "threads": request.threads or torch.get_num_threads(),
        "overwrite": False,
    }
    if controls.cuts:
        settled |= {CUT + name: value for name, value in controls.crf}
    elif source.iterations is not None:
        settled |= {
            "iterations": controls.iterations,
            "mrf_strength": controls.mrf_strength,
            "damping": controls.damping,
            "update": controls.update_rule,
            "nudges": {
                (names[one.first], names[one.second]): one.amount for one in controls.nudges
            },
        }
    return request.model_copy(update=settled)


def _check_source(source: Source, wanted: Recipe) -> None:
    """Raise InputError unless models and probabilities are those of a recipe."""
    if source.model is not None and wanted.model is not None:
        check_same("model", [source.model], [wanted.model])
    check_same("map of probabilities", [*source.probabilities.values()], wanted.probabilities)
    check_same("member", [*source.members.values()], wanted.members)
    if source.prior_source is not None and wanted.prior_source is not None:
        check_same("prior", [source.prior_source], [wanted.prior_source])


@contextmanager
def _torch_threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tell_nobody(what: str, fraction: float) -> None:
    """Report nothing."""
