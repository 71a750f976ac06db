"""`structseg predict`: from an image to label files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from napari_structseg.errors import ConfigError

if TYPE_CHECKING:
    from napari_structseg.prediction.region_of_interest import RegionOfInterest


def predict(
    image: list[Path],
    /,
    *,
    out: Path,
    model: str | None = None,
    probabilities: Annotated[list[Path] | None, Parameter(negative="")] = None,
    prior: str | None = None,
    slice_: Annotated[str | None, Parameter(name="--slice")] = None,
    box: str | None = None,
    window: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    class_scale: Annotated[
        list[str] | None, Parameter(negative="", help="NAME=VALUE; may be given several times.")
    ] = None,
    iterations: int | None = None,
    mrf_strength: float | None = None,
    damping: float | None = None,
    update: Literal["parallel", "proximal", "coloured"] | None = None,
    nudge: Annotated[
        list[str] | None, Parameter(negative="", help="NAME,NAME=VALUE; as often as wanted.")
    ] = None,
    device: str | None = None,
    threads: int | None = None,
    recipe: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Segment an image; write the mean, samples and their entropy.

    Writes mean.nii.gz, sample-001.nii.gz and so on (labels), entropy.nii.gz (nats) and
    recipe.json to the folder --out, on the voxel grid of the image.

    Parameters
    ----------
    image
        A NIfTI or PNG file. Several channels: a 4-D NIfTI file, or one file for each channel.
    out
        Folder for the results; made if it is missing.
    model
        Name of a model that comes with the program, or a .safetensors file.
    probabilities
        Instead of a model: class probabilities on the voxel grid of the image, as a 4-D NIfTI
        file or, given once for each class, one file for each.
    prior
        A model, by name or file, whose prior is used in place of the model's own.
    slice_
        For a 2-D model on a volume: the slice, as AXIS:INDEX with the axis z, y or x, or several
        from there on, as AXIS:INDEX:COUNT. Counted from 0, as in the viewer.
    box
        Only this part of the slices, as START:STOP,START:STOP along their two axes.
    window
        Intensities that the model sees as 0 and 1, as LOW:HIGH; the model's own if not given.
    samples
        How many samples to write; 10 if not given.
    seed
        Which series of samples; 7 if not given.
    temperature
        How far samples stray from the mean, from 0 to 3; 1 if not given.
    class_scale
        How far one class strays, from -3 to 3, as NAME=VALUE; 1 for those not given.
    iterations
        Iterations of mean field with the prior, from 0 to 50; as many as the prior was made for
        if not given. This option and the next four need a prior.
    mrf_strength
        How much neighbours count beside the model, from 0 to 5; 1 if not given.
    damping
        Share of each step of mean field that is taken, from 0.05 to 1; 1 if not given.
    update
        Which voxels a step takes: parallel, proximal or coloured; parallel if not given.
    nudge
        Two classes that should touch more (up to 5) or less (down to -5), as NAME,NAME=VALUE.
    device
        auto (a GPU if there is one), cpu, cuda:0, ...
    threads
        Threads of the processor; the last digits of a network's output depend on their number.
    recipe
        A recipe.json: make its results again, and check that they are the same.
    overwrite
        Replace the results of an earlier prediction in --out.
    """
    from rich.console import Console
    from rich.progress import Progress

    from napari_structseg.devices import AUTO
    from napari_structseg.results import batch

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Progress(console=console) as bars:
        tasks = {}

        def report(what: str, fraction: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=fraction)

        if recipe is not None:
            of_prior = (iterations, mrf_strength, damping, update, nudge)
            seen = (slice_, box, window)
            _refuse_controls(samples, seed, temperature, class_scale, *of_prior, *seen, threads)
            made = batch.reproduce(
                recipe,
                image,
                out,
                model=model,
                probabilities=probabilities,
                prior=prior,
                device=device,
                overwrite=overwrite,
                report=report,
            )
        else:
            made = batch.predict(
                image,
                model,
                out,
                probabilities=probabilities,
                prior=prior,
                roi=_roi(slice_, box),
                window=None if window is None else _window(window),
                samples=batch.DEFAULT_SAMPLES if samples is None else samples,
                seed=seed,
                temperature=1.0 if temperature is None else temperature,
                class_scale=_scales(class_scale or []),
                iterations=iterations,
                mrf_strength=mrf_strength,
                damping=damping,
                update=update,
                nudges=None if nudge is None else _nudges(nudge),
                device=device or AUTO,
                threads=threads,
                overwrite=overwrite,
                report=report,
            )
    same = ", the same as the recipe's to the last voxel" if recipe is not None else ""
    console.print(f"{len(made.outputs)} files and recipe.json in {out}{same}", markup=False)


def _scales(assignments: list[str]) -> dict[str, float]:
    """Class scales by name from NAME=VALUE.

    Raises
    ------
    ConfigError
        If one is not of this form, or a class is named twice.
    """
    scales: dict[str, float] = {}
    for assignment in assignments:
        name, equals, value = assignment.rpartition("=")
        try:
            scale = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(
                f'--class-scale needs NAME=VALUE, for example "Grey matter=1.4", but it is '
                f"{assignment!r}."
            )
        if name in scales:
            raise ConfigError(f"--class-scale names the class {name!r} twice. Give one value.")
        scales[name] = scale
    return scales


def _nudges(assignments: list[str]) -> dict[tuple[str, str], float]:
    """Amounts by pairs of class names from NAME,NAME=VALUE.

    Raises
    ------
    ConfigError
        If one is not of this form, or a pair is named twice.
    """
    nudges: dict[tuple[str, str], float] = {}
    for assignment in assignments:
        names, _, value = assignment.rpartition("=")
        try:
            amount = float(value)
            # A name with a comma of its own is quoted.
            (pair,) = csv.reader([names], skipinitialspace=True, strict=True)
            first, second = pair
        except (ValueError, csv.Error) as error:
            raise ConfigError(
                f'--nudge needs NAME,NAME=VALUE, for example "CSF,White matter=-0.5", but it is '
                f"{assignment!r}."
            ) from error
        if (first, second) in nudges:
            raise ConfigError(f"--nudge names {first!r} and {second!r} twice. Give one value.")
        nudges[first, second] = amount
    return nudges


def _roi(slices: str | None, box: str | None) -> RegionOfInterest | None:
    """What --slice and --box mark.

    Raises
    ------
    ConfigError
        If one is not of its form, or there is a box and no slice.
    """
    from napari_structseg.prediction.region_of_interest import RegionOfInterest

    if slices is not None:
        return RegionOfInterest.parse(slices, box)
    if box is not None:
        raise ConfigError("--box is a part of a slice. Say which slice with --slice.")
    return None


def _window(ends: str) -> tuple[float, float]:
    """Two numbers from LOW:HIGH.

    Raises
    ------
    ConfigError
        If it is not of this form.
    """
    try:
        low, high = map(float, ends.split(":"))
    except ValueError as error:
        raise ConfigError(
            f"--window needs LOW:HIGH, for example --window=-1000:1200, but it is {ends!r}."
        ) from error
    return low, high


def _refuse_controls(*controls: object) -> None:
    if any(control is not None for control in controls):
        raise ConfigError(
            "--samples, --seed, --temperature, --class-scale, --iterations, --mrf-strength, "
            "--damping, --update, --nudge, --slice, --box, --window and --threads come from the "
            "recipe. Leave them out, or predict without --recipe."
        )
