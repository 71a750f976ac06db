"""Controls from options: classes by their names, and messages that say which class is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from napari_structseg.controls import Controls
from napari_structseg.distributions import Spread
from napari_structseg.errors import ConfigError, ControlsError


def make_controls(
    class_names: Sequence[str], calibrated: Spread | None = None, **values: object
) -> Controls:
    """Controls from options, with classes by name.

    Parameters
    ----------
    class_names
        Names of the model's classes, in label order.
    calibrated
        Where temperature and class scales start, ``spec.calibrated``; None: at 1.
    **values
        Fields of :class:`Controls`. With names in any case, ``class_scale`` may be a mapping
        from name to scale, and ``nudges`` one from pairs of names to amounts.

    Raises
    ------
    ConfigError
        For an unknown class, another number of class scales than classes, a class that is scaled
        or a pair that is nudged twice, or a value out of range: what was expected and what came.
    """
    scales = values.pop("class_scale", None) or {}
    if isinstance(scales, dict):
        given = {_label_of(name, class_names): value for name, value in scales.items()}
        if len(given) < len(scales):
            raise ConfigError(
                "A scale is expected once for each class, but one class is given twice, in "
                f"different spellings: {', '.join(map(str, scales))}. Leave one out."
            )
        start = calibrated or Spread.neutral(len(class_names))
        scales = tuple(given.get(label, scale) for label, scale in enumerate(start.class_scale))
    if calibrated is not None:
        values.setdefault("temperature", calibrated.temperature)
    nudges = values.pop("nudges", None) or ()
    named = {"class_scale": list(class_names)}
    if isinstance(nudges, Mapping):
        named["nudges"] = [" and ".join(map(str, pair)) for pair in nudges]
        nudges = _nudges_by_name(nudges, class_names)
    try:
        controls = Controls.model_validate({**values, "class_scale": scales, "nudges": nudges})
    except ValidationError as error:
        raise ControlsError(
            [
                (*_where(problem["loc"], named), f"{problem['msg']} (got {problem['input']!r})")
                for problem in error.errors()
            ]
        ) from error
    controls.weights(len(class_names))
    return controls


def _label_of(name: object, class_names: Sequence[str]) -> int:
    """The label of a class, by its name in any case."""
    if name in class_names:
        return class_names.index(str(name))
    known = [one.casefold() for one in class_names]
    if str(name).casefold() not in known:
        raise ConfigError(
            f"Unknown class {name!r}. The model's classes are: {', '.join(class_names)}."
        )
    return known.index(str(name).casefold())


def _nudges_by_name(
    amounts: Mapping[object, object], class_names: Sequence[str]
) -> list[dict[str, object]]:
    """Fields of nudges from pairs of names and amounts."""
    nudges: dict[frozenset[int], dict[str, object]] = {}
    for pair, amount in amounts.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ConfigError(
                f"A nudge is between two classes, but it is given for {pair!r}. Name both, or the "
                "same one twice."
            )
        first, second = (_label_of(name, class_names) for name in pair)
        if frozenset((first, second)) in nudges:
            raise ConfigError(
                f"The pair {class_names[first]!r} and {class_names[second]!r} is nudged twice. "
                "Give one amount."
            )
        nudges[frozenset((first, second))] = {"first": first, "second": second, "amount": amount}
    return list(nudges.values())


def _where(location: tuple[int | str, ...], names: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The name of a field, and the class or the pair of classes that it is about."""
    field, *rest = map(str, location)
    if field == "crf" and rest:
        # As the options of a prediction call them.
        return f"cut_{rest[0]}", ""
    known = names.get(field, ())
    if rest and rest[0].isdecimal() and int(rest[0]) < len(known):
        return field, f" of {known[int(rest[0])]}"
    return field, "".join(f".{part}" for part in rest)
