"""The plain data in a pickled file, read without running what is in it.

nnU-Net writes where a prediction lies as a pickle, and unpickling runs code. Here the instructions
of the pickle are read one by one (`pickletools`, which runs nothing), and only those are followed
that build numbers, text, lists, dictionaries and numpy arrays of numbers. Everything else is
refused. So is what takes memory out of proportion: an array is no more than its bytes in the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import InputError

# The largest are lists of 10,000 voxels for each class: far below.
_MAX_BYTES = 1 << 28
_MAX_DIMENSIONS = 8
_KINDS = "biufUS"
_KEYS = (str, int, float, bool, type(None))
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


class _RefusedError(ValueError):
    """Something that is no plain data."""


class _Type:
    """A type of numpy's, from ``dtype(text, align, copy)`` and the state that follows."""

    def __init__(self, text: object, *_: object) -> None:
        try:
            self.value = np.dtype(text if isinstance(text, str) else "O")
        except TypeError as error:
            raise _RefusedError(f"the type {text!r}") from error
        if self.value.kind not in _KINDS or self.value.itemsize == 0:
            raise _RefusedError(f"an array of the type {text!r}")

    def set_state(self, state: object) -> None:
        """Only the byte order is taken."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array of numbers, empty until its state has come."""

    def __init__(self, *_: object) -> None:
        self.value: npt.NDArray[Any] = np.empty(0)

    def set_state(self, state: object) -> None:
        """Of ``(version, shape, type, Fortran order, bytes)``."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("an array without its numbers")
        _, shape, kind, fortran, content = state
        self.value = _array(content, kind, shape, "F" if fortran else "C")


def _array(content: object, kind: object, shape: object, order: object) -> npt.NDArray[Any]:
    if not isinstance(kind, _Type) or not isinstance(content, bytes):
        raise _RefusedError("an array that does not hold plain numbers")
    if not isinstance(shape, tuple) or not all(isinstance(size, int) for size in shape):
        raise _RefusedError(f"an array of shape {shape!r}")
    if len(shape) > _MAX_DIMENSIONS or order not in ("C", "F"):
        raise _RefusedError(f"an array of shape {shape!r}")
    return np.frombuffer(content, kind.value).reshape(shape, order=order)


def _from_buffer(content: object, kind: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.value = _array(content, kind, shape, order)
    return array


def _scalar(kind: object, content: object) -> object:
    return _array(content, kind, (), "C").item()


def _encoded(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("text in another encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _dictionary(pairs: object = ()) -> dict[Any, Any]:
    if not isinstance(pairs, list | tuple):
        raise _RefusedError("a dictionary that is made of something else")
    made: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise _RefusedError("a dictionary that is made of something else")
        _put(made, pair[0], pair[1])
    return made


# What a pickle may name. Each only puts together what the file holds.
_NAMED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _dictionary,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    **{(module, "_reconstruct"): _Array for module in _MULTIARRAY},
    **{(module, "scalar"): _scalar for module in _MULTIARRAY},
    **{(module, "_frombuffer"): _from_buffer for module in _NUMERIC},
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_AS_THEY_ARE = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8",
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = {"PROTO", "FRAME"}
_MARK = object()


def read_plain_data(path: Path) -> object:
    """What a pickled file holds, if that is plain data.

    Parameters
    ----------
    path
        For example the .pkl beside a prediction of nnU-Net.

    Returns
    -------
    object
        Numbers, text, bytes, lists, tuples, dictionaries and numpy arrays. An `OrderedDict` is a
        dictionary, a number of numpy's a number of Python's.

    Raises
    ------
    InputError
        If the file cannot be read, is damaged, or holds anything else.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(
                f"{path} has more than {_MAX_BYTES >> 20} MiB, which is more than nnU-Net writes "
                "for one case. Give the .pkl that was written beside the prediction."
            )
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror or error}. Check the name and the folder."
        ) from error
    try:
        return _Reader().read(content)
    except _RefusedError as error:
        raise InputError(
            f"{path} was refused: plain numbers, text and arrays were expected, but it holds "
            f"{error}. Unpickling that could run foreign code. Export the prediction again with "
            "nnU-Net, or give it as a NIfTI file."
        ) from error
    # What pickletools and numpy say of a damaged file.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"{path} is damaged, or no pickle: {error}. Copy it again, or export the prediction "
            "again."
        ) from error


class _Reader:
    """Follows the instructions of a pickle that build plain data."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._kept: dict[int, Any] = {}

    def read(self, content: bytes) -> object:
        """The object that a pickle describes."""
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name == "STOP":
                return _plain(self._stack.pop())
            self._follow(instruction.name, argument)
        raise ValueError("it has no end")

    def _follow(self, name: str, argument: Any) -> None:  # noqa: ANN401 -- as the file has it
        stack = self._stack
        if name in _NOTHING:
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _AS_THEY_ARE:
            stack.append(argument)
        elif name == "BYTEARRAY8":
            stack.append(bytes(argument))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(items[::-1]))
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            self._kept[len(self._kept) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._kept[int(argument)])
        elif name == "GLOBAL":
            stack.append(_named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(module, attribute))
        else:
            self._build(name)

    def _build(self, name: str) -> None:
        stack = self._stack
        if name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._to_mark()
            _of(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._to_mark()
            for key, value in zip(items[::2], items[1::2], strict=True):
                _put(_of(stack[-1], dict), key, value)
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = _of(stack.pop(), tuple), stack.pop()
            if function not in _NAMED.values():
                raise _RefusedError("a call of something that is no function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], _Type | _Array):
                raise _RefusedError("an object with a state of its own")
            stack[-1].set_state(state)
        else:
            raise _RefusedError(f"the instruction {name}")

    def _to_mark(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        found: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            found.append(item)
        return found[::-1]


def _named(module: object, attribute: object) -> Callable[..., Any]:
    known = isinstance(module, str) and isinstance(attribute, str)
    if not known or (module, attribute) not in _NAMED:
        raise _RefusedError(f"{module}.{attribute}")
    return _NAMED[str(module), str(attribute)]


def _of(value: object, kind: type) -> Any:  # noqa: ANN401 -- the kind that was asked for
    if type(value) is not kind:
        raise ValueError(f"a {kind.__name__} was expected, but a {type(value).__name__} came")
    return value


def _put(made: dict[Any, Any], key: object, value: object) -> None:
    # A tuple of tuples of tuples can be a name that takes a year to look up.
    if not isinstance(key, _KEYS):
        raise _RefusedError(f"a dictionary with a {type(key).__name__} for a name")
    made[key] = value


def _plain(value: object) -> object:
    """The same with arrays of numpy's; what holds something twice, or itself, is gone through once.

    Tuples that hold arrays are made new: they cannot be changed.
    """
    made: dict[int, Any] = {}
    return _made_plain(value, made, 0)


def _made_plain(value: object, made: dict[int, Any], depth: int) -> object:
    if isinstance(value, _Type):
        return value.value
    if isinstance(value, _Array):
        return value.value
    if not isinstance(value, list | dict | tuple):
        if callable(value) or value is _MARK:
            raise _RefusedError("a function")
        return value
    if id(value) in made:
        return made[id(value)]
    if depth > 50:
        raise _RefusedError("lists within lists, 50 deep")
    if isinstance(value, tuple):
        made[id(value)] = ()
        made[id(value)] = tuple(_made_plain(item, made, depth + 1) for item in value)
    elif isinstance(value, dict):
        plain: dict[Any, Any] = {}
        made[id(value)] = plain
        for key, item in value.items():
            plain[key] = _made_plain(item, made, depth + 1)
    else:
        listed: list[object] = []
        made[id(value)] = listed
        listed.extend(_made_plain(item, made, depth + 1) for item in value)
    return made[id(value)]
