"""One prediction: checked, run, written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from napari_structseg.controls import Controls
from napari_structseg.image import Image
from napari_structseg.io.channels import read_channels
from napari_structseg.io.nifti import write_volume
from napari_structseg.io.references import FileReference, refer_to, voxel_hash
from napari_structseg.prediction.intensity_windows import Range
from napari_structseg.prediction.region_of_interest import embedded
from napari_structseg.prediction.source import FilePath, Source
from napari_structseg.results.files import prepare_folder, remove_results, render_results
from napari_structseg.results.recipe import (
    Recipe,
    check_prior,
    check_same,
    make_recipe,
    write_recipe,
)

Report = Callable[[str, float], None]
"""Told what is being done, and which fraction of it is."""


@dataclass(frozen=True, slots=True)
class Task:
    """A prediction that has passed every check that can be made before it runs.

    Attributes
    ----------
    source
        Gives the distribution.
    paths, image, images
        What is segmented: its files, what is in them, and references to them.
    controls, samples, threads, out, window
        As for :func:`napari_structseg.results.batch.predict`.
    format_version
        Of the recipe: it says how samples are numbered.
    """

    source: Source
    paths: tuple[Path, ...]
    image: Image
    images: tuple[FileReference, ...]
    controls: Controls
    samples: int
    threads: int
    out: Path
    window: Range | None = None
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
        source, outputs = self.source, {}
        with _torch_threads(self.threads):
            distribution = source.predictor.predict(
                self.image, report=lambda fraction: tell("Running the model", fraction)
            )
            prior = source.prior(self.image)
            results = render_results(
                distribution,
                self.controls,
                self.samples,
                prior,
                first_number=self.format_version - 1,
            )
            region = source.region(self.image)
            for done, (name, part) in enumerate(results, start=1):
                array = embedded(part, region, self.image.spatial_shape)
                if done == 1:
                    # Mean field may fail on its way to the first result.
                    remove_results(self.out)
                write_volume(
                    self.out / name,
                    array,
                    self.image.geometry,
                    dtype=array.dtype,
                    description=f"napari-structseg {name.partition('.')[0]} of {source.spec.name}",
                )
                outputs[name] = voxel_hash(array)
                tell("Writing results", done / (self.samples + 2))
        recipe = make_recipe(
            source.model,
            source.probabilities,
            self.images,
            self.controls,
            source.spec.class_names,
            has_prior=prior is not None,
            prior_source=source.prior_source,
            roi=source.roi,
            window=self.window,
            samples=self.samples,
            device=str(source.predictor.device),
            threads=self.threads,
            outputs=outputs,
            arguments=[*(str(path) for path in self.paths), "--out", str(self.out)],
            format_version=self.format_version,
        )
        write_recipe(self.out, recipe)
        return recipe


def prepare(
    source: Source,
    image: FilePath | Sequence[FilePath],
    controls: Controls,
    *,
    samples: int,
    threads: int,
    out: Path,
    overwrite: bool,
    window: Range | None = None,
    wanted: Recipe | None = None,
) -> Task:
    """Check all that can go wrong because of what came in, before anything is computed.

    Parameters
    ----------
    source
        Gives the distribution.
    image, controls, samples, threads, out, overwrite, window
        As for :func:`napari_structseg.results.batch.predict`.
    wanted
        The recipe that source and image must be those of.

    Raises
    ------
    InputError
        If the image or the folder cannot be used, or something is not the recipe's.
    MemoryLimitError
        If the work does not fit into memory.
    """
    paths = tuple(Path(one) for one in files(image))
    opened = read_channels(paths)
    has_prior = source.iterations is not None
    images = tuple(refer_to(path) for path in paths)
    if wanted is not None:
        # First: another image may not even suit the model.
        _check_references(source, images, wanted)
        check_prior(wanted, source.spec.name, has_prior=has_prior)
    source.predictor.check(opened, refined=has_prior and controls.refines)
    inputs = (*paths, *(Path(path) for path in source.probabilities))
    prepare_folder(out, inputs, overwrite=overwrite)
    version: Literal[1, 2] = 2 if wanted is None else wanted.format_version
    return Task(source, paths, opened, images, controls, samples, threads, out, window, version)


def files(given: FilePath | Sequence[FilePath]) -> Sequence[FilePath]:
    """One file or several, as several."""
    return [given] if isinstance(given, str | os.PathLike) else given


def _check_references(source: Source, images: Sequence[FileReference], wanted: Recipe) -> None:
    if source.model is not None and wanted.model is not None:
        check_same("model", [source.model], [wanted.model])
    check_same("map of probabilities", [*source.probabilities.values()], wanted.probabilities)
    check_same("image", images, wanted.images)
    if source.prior_source is not None and wanted.prior_source is not None:
        check_same("prior", [source.prior_source], [wanted.prior_source])


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tell_nobody(what: str, fraction: float) -> None:
    """Report nothing."""
