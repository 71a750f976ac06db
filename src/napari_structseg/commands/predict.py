"""`structseg predict`: from an image to label files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_structseg.commands.prediction_options import parameters, request_of
from napari_structseg.errors import ConfigError

if TYPE_CHECKING:
    from napari_structseg.many.work import Outcome

# Of many images some failed: neither all is well, nor was nothing done.
EXIT_SOME_FAILED = 1


def predict(
    image: list[Path],
    /,
    *,
    recipe: Path | None = None,
    skip_existing: bool | None = None,
    part: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    **options: Any,  # noqa: ANN401 -- the options of a request, which checks them
) -> int:
    """Segment an image; write the mean, samples, their entropy and volumes.

    Writes mean.nii.gz, sample-001.nii.gz and so on (labels) and entropy.nii.gz (nats) to the
    folder --out, on the voxel grid of the image; and volumes.csv and recipe.json.

    A folder of images, or a list of them (*.txt, *.csv), is predicted case by case, into one
    folder for each; --out/volumes.csv then has all of them. What fails is listed in
    --out/failed.csv, and the others go on; the exit code is 1 then.
    """
    from napari_structseg.many.cases import are_many

    how = {
        "skip-existing": skip_existing,
        "part": part,
        "workers": workers,
        "scheduler": scheduler,
    }
    if are_many(image):
        if recipe is not None:
            raise ConfigError("--recipe is about one image. Name that image.")
        return _predict_many(image, options, how)
    for name, value in how.items():
        if value is not None:
            raise ConfigError(
                f"--{name} is about several images. Name their folder, or a list of them: *.txt or "
                "*.csv."
            )
    _predict_one(image, recipe, options)
    return 0


def _predict_one(image: list[Path], recipe: Path | None, options: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from napari_structseg.results.batch import reproduce
    from napari_structseg.results.task import prepare

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Progress(console=console) as bars:
        tasks = {}

        def report(what: str, fraction: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=fraction)

        if recipe is None:
            made = prepare(request_of(image, options)).run(report)
        else:
            made = reproduce(recipe, image, **_beside_a_recipe(options), report=report)
    same = ", the same as the recipe's to the last voxel" if recipe is not None else ""
    out = options["out"]
    console.print(
        f"{len(made.outputs)} images, volumes.csv and recipe.json in {out}{same}", markup=False
    )


def _predict_many(image: list[Path], options: dict[str, Any], how: dict[str, Any]) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from napari_structseg.many.cases import Part
    from napari_structseg.many.run import Choice, run
    from napari_structseg.workers.crew import Crew

    choice = Choice(
        bool(how["skip-existing"]),
        None if how["part"] is None else Part.parse(how["part"]),
        Crew(how["workers"], how["scheduler"]),
    )
    request = request_of(image, options)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("Cases", total=None)

        def report(outcome: Outcome, done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            if outcome.status == "failed":
                console.print(f"{outcome.case} failed: {outcome.error}", markup=False)

        try:
            finished = run(request, choice, report)
        except KeyboardInterrupt as stop:
            raise type(stop)(
                f"Stopped. Cases that were done are kept, and in {request.out / 'volumes.csv'}; go "
                "on with the same command and --skip-existing."
            ) from stop
    failed = finished.count("failed")
    said = f"{finished.count('done')} predicted, {finished.count('skipped')} skipped, {failed} "
    console.print(f"{said}failed; volumes.csv in {request.out} has every case", markup=False)
    if failed:
        console.print(
            f"What failed is in {request.out / 'failed.csv'}; try these again with the same "
            "command and --skip-existing.",
            markup=False,
        )
    return EXIT_SOME_FAILED if failed else 0


def _beside_a_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """The options that say where things are; the recipe has all others.

    Raises
    ------
    ConfigError
        If another one is given.
    """
    places = (
        "out", "model", "probabilities", "members", "prior", "strokes", "device", "overwrite"
    )  # fmt: skip
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if set(given) - set(places):
        raise ConfigError(
            "Samples, slices, the window, controls and threads come from the recipe. Leave these "
            "options out."
        )
    return given


def _option(name: str, kind: object, described: str) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, Parameter(help=described, negative="", show_default=False)],
    )


_OWN = (
    _option(
        "recipe",
        Path | None,
        "A recipe.json: make its results again, and check that they are the same.",
    ),
    _option(
        "skip_existing",
        bool | None,
        "Of several images: leave what was predicted with the same settings before, and replace "
        "what is not whole.",
    ),
    _option(
        "part",
        str | None,
        "Of several images: only one part of the cases, as NUMBER/TOTAL, for job arrays.",
    ),
    _option(
        "workers",
        int | None,
        "Of several images: how many processes work on them; as many as fit into memory if not "
        "given.",
    ),
    _option(
        "scheduler",
        str | None,
        "Of several images: the address of a scheduler of dask.distributed, or the file that it "
        "wrote, whose workers do the work.",
    ),
)
_OPTIONS = [*parameters(), *_OWN]
# What cyclopts reads. An option is described where the request has its field, and only there.
predict.__dict__["__signature__"] = inspect.Signature(_OPTIONS)
predict.__annotations__ = {one.name: one.annotation for one in _OPTIONS}
