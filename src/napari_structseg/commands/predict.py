"""`structseg predict`: from an image to label files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_structseg.commands.prediction_options import parameters, request_of
from napari_structseg.errors import ConfigError


def predict(
    image: list[Path],
    /,
    *,
    recipe: Path | None = None,
    **options: Any,  # noqa: ANN401 -- the options of a request, which checks them
) -> None:
    """Segment an image; write the mean, samples, their entropy and volumes.

    Writes mean.nii.gz, sample-001.nii.gz and so on (labels) and entropy.nii.gz (nats) to the
    folder --out, on the voxel grid of the image; and volumes.csv and recipe.json.
    """
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


_RECIPE = inspect.Parameter(
    "recipe",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        Parameter(help="A recipe.json: make its results again, and check that they are the same."),
    ],
)
_OPTIONS = [*parameters(), _RECIPE]
# What cyclopts reads. An option is described where the request has its field, and only there.
predict.__dict__["__signature__"] = inspect.Signature(_OPTIONS)
predict.__annotations__ = {one.name: one.annotation for one in _OPTIONS}
