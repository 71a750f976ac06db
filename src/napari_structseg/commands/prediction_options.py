"""The options of `structseg predict`, made from the fields of a prediction request."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_structseg.errors import ConfigError
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.results.options import Alias
from napari_structseg.results.request import PredictionRequest, alias_of, make_request, option_of

# Two options of text make the region of interest. The name of the first is a word of Python's.
_SLICE = "slice_"
_SLICE_HELP = (
    "For a 2-D model on a volume: the slice, as AXIS:INDEX with the axis z, y or x, or several "
    "from there on, as AXIS:INDEX:COUNT. Counted from 0, as in the viewer."
)
# None stands for what is not given, and the request checks what is.
_WITHOUT_CHECKS: dict[str, object] = {
    "model": str | None,
    "probabilities": list[Path] | None,
    "members": list[Path] | None,
    "members_as": str | None,
    "augment": list[str] | None,
    "passes": int | None,
    "prior": str | None,
    "series": str | None,
    "strokes": Path | None,
    "samples": int | None,
    "device": str | None,
    "precision": str | None,
    "overwrite": bool | None,
    "save_probabilities": bool | None,
    "cut": bool | None,
    "keep_patient": bool | None,
    "sr": bool | None,
    "format": str | None,
}
_BOX_HELP = "Only this part of the slices, as START:STOP,START:STOP along their two axes."


def parameters() -> Iterator[inspect.Parameter]:
    """The signature of the command: all are None where they are not given.

    What has a form of its own comes as text, see :func:`request_of`.
    """
    for name, field in PredictionRequest.model_fields.items():
        option = option_of(field)
        described = field.description or ""
        if name == "images":
            yield _parameter("image", list[Path], described, inspect.Parameter.POSITIONAL_ONLY)
        elif name == "out":
            # As text: an empty one would become the working folder.
            yield _parameter(name, str, described)
        elif name == "roi":
            yield _optional(_SLICE, str | None, _SLICE_HELP)
            yield _optional("box", str | None, _BOX_HELP)
        elif option is not None:
            kind = list[str] | None if option.many else str | None
            yield _optional(option.name.replace("-", "_"), kind, described)
        else:
            plain = _WITHOUT_CHECKS.get(name, field.annotation)
            yield _optional(name, plain, described, alias_of(field))


def request_of(images: Sequence[Path], options: Mapping[str, Any]) -> PredictionRequest:
    """The request that the options of a command stand for.

    Parameters
    ----------
    images
        Files.
    options
        By the names of :func:`parameters`; None: not given.

    Raises
    ------
    ConfigError
        If an option is not of its form, or out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    slices, box = given.pop(_SLICE, None), given.pop("box", None)
    if slices is not None:
        given["roi"] = RegionOfInterest.parse(slices, box)
    elif box is not None:
        raise ConfigError("--box is a part of a slice. Say which slice with --slice.")
    for name, field in PredictionRequest.model_fields.items():
        option = option_of(field)
        if option is not None:
            text = given.pop(option.name.replace("-", "_"), None)
            if text is not None:
                given[name] = option.read(text)
    return make_request(images=tuple(images), **given)


def _optional(
    name: str, kind: object, described: str, alias: Alias | None = None
) -> inspect.Parameter:
    return _parameter(name, kind, described, default=None, alias=alias)


def _parameter(
    name: str,
    kind: object,
    described: str,
    how: Any = inspect.Parameter.KEYWORD_ONLY,  # noqa: ANN401 -- a private enumeration
    *,
    default: object = inspect.Parameter.empty,
    alias: Alias | None = None,
) -> inspect.Parameter:
    names = [f"--{name.replace('_', '-')}", f"--{alias.name}"] if alias else None
    told = Parameter(
        name="--slice" if name == _SLICE else names,
        help=described,
        negative="",
        show_default=False,
        # Several folds behind one word, as a shell fills in "fold_*".
        consume_multiple=alias is not None and kind == list[Path] | None,
    )
    return inspect.Parameter(name, how, default=default, annotation=Annotated[kind, told])
