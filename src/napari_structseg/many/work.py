"""One case, as a process works on it: its model is opened once, and an error is an answer."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_structseg.errors import InputError, MemoryLimitError, StructSegError
from napari_structseg.io.channels import refer_to_images
from napari_structseg.memory import is_out_of_memory
from napari_structseg.prediction.source import Source
from napari_structseg.results.files import RESULT_NAMES, VOLUMES_NAME
from napari_structseg.results.labelling import write_text
from napari_structseg.results.recipe import Recipe
from napari_structseg.results.recipe_files import RECIPE_NAME, read_recipe
from napari_structseg.results.request import PredictionRequest
from napari_structseg.results.task import controls_of, prepare, recipe_of, resolved, source_of

logger = logging.getLogger(__name__)

FAILED_NAME = "failed.txt"
# What may differ between two recipes of the same results: where, how fast and when.
_OF_NO_ACCOUNT = {"format_version", "device", "threads", "versions", "command", "outside_domain"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case.

    Attributes
    ----------
    case
        Its name.
    status
        Predicted now; skipped, since its results were there; or failed.
    error
        Why it failed.
    lacked_memory
        Whether it was for want of memory, which a try of its own may have.
    """

    case: str
    status: Literal["done", "skipped", "failed"]
    error: str = ""
    lacked_memory: bool = False


class OpenedOnce:
    """The source of the last request, kept: a process opens its model once for all cases."""

    def __init__(self) -> None:
        self._key: PredictionRequest | None = None
        self._source: Source | None = None

    def __call__(self, request: PredictionRequest) -> Source:
        """The source that a request names, as :func:`source_of`."""
        free: dict[str, object] = {"out": Path(), "threads": None, "samples": 0}
        # Members are those of an image.
        key = request.model_copy(update=free if request.members else free | {"images": ()})
        if self._source is None or key != self._key:
            # Two models may not fit.
            self._source = None
            self._source = source_of(request)
            self._key = key
        return self._source

    def forget(self) -> None:
        """Let the source go: a file may be another one by now."""
        self._key = self._source = None


opened = OpenedOnce()


@dataclass(frozen=True, slots=True)
class Order:
    """One case, for a worker.

    Attributes
    ----------
    case
        Its name.
    request
        With the images and the folder of the case.
    skip_existing
        Leave results that are whole and were made by the same settings; replace what is not
        whole.
    """

    case: str
    request: PredictionRequest
    skip_existing: bool


def work_on(order: Order) -> Outcome:
    """Predict one case into its folder.

    Asked twice for the same, it gives the same files: a process that was ended may have been
    anywhere. What goes wrong is written to ``failed.txt`` in the folder, and returned.
    """
    case, request = order.case, order.request
    try:
        source = opened(request)
        if order.skip_existing:
            if is_done(request, source):
                return Outcome(case, "skipped")
            request = request.model_copy(update={"overwrite": True})
        prepare(request, source=source).run()
    except StructSegError as error:
        lacked = isinstance(error, MemoryLimitError)
        return failed(request.out, Outcome(case, "failed", _one_line(str(error)), lacked))
    except Exception as error:
        lacked = is_out_of_memory(error)
        logger.exception("%s failed", case)
        told = "".join(traceback.format_exception(error))
        outcome = Outcome(case, "failed", _one_line(f"{type(error).__name__}: {error}"), lacked)
        return failed(request.out, outcome, told)
    # Only now: whoever looks meanwhile sees the last that is known.
    with suppress(OSError):
        (request.out / FAILED_NAME).unlink(missing_ok=True)
    return Outcome(case, "done")


def is_done(request: PredictionRequest, source: Source) -> bool:
    """Whether a folder holds all results of a request.

    Raises
    ------
    InputError
        If it holds whole results of other settings, another model or another image.
    """
    try:
        there = read_recipe(request.out / RECIPE_NAME)
    except InputError:
        # It is written last: without it, results are not whole.
        return False
    images = refer_to_images(request.images, series=request.series)
    settled = resolved(request, source, controls_of(request, source))
    wanted = recipe_of(settled, source, images, there.outputs)
    found, expected = _compared(there), _compared(wanted)
    different = sorted(name for name, value in expected.items() if found.get(name) != value)
    if different:
        raise InputError(
            f"{request.out} holds results made with another {' and '.join(different)}. Give the "
            "settings that they were made with, choose another folder, or replace them with "
            "--overwrite."
        )
    report = () if request.report_file is None else (request.report_file,)
    return all((request.out / name).exists() for name in (*there.outputs, VOLUMES_NAME, *report))


def holds_results(folder: Path) -> bool:
    """Whether there is anything in a folder that has the name of a result."""
    return any((folder / name).exists() for name in RESULT_NAMES)


def _compared(recipe: Recipe) -> dict[str, object]:
    """What a recipe says of its results, without the names that files have today."""
    content: dict[str, object] = recipe.model_dump(exclude=_OF_NO_ACCOUNT | {"images", "model"})
    content["image"] = [one.sha256 for one in recipe.images]
    content["model"] = None if recipe.model is None else recipe.model.sha256
    return content


def failed(folder: Path, outcome: Outcome, told: str | None = None) -> Outcome:
    """Write down in the folder of a case that it failed; gives the same outcome."""
    # A folder that cannot be written is the reason, then, and it is returned.
    with suppress(StructSegError, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FAILED_NAME, told or outcome.error)
    return outcome


def _one_line(text: str) -> str:
    return " ".join(text.split())
