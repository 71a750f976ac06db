"""Whether the numbers of a TorchScript archive are all there.

torch takes the sizes of tensors from one file of the archive and their numbers from others, and
does not compare them: with a file that is too short it reads beyond the end of memory. Here the
first is gone through as a list of opcodes. Nothing of it is executed.
"""

from __future__ import annotations

import math
import pickletools
from typing import Any

from napari_structseg.errors import WeightsError
from napari_structseg.models.programs.archive import Members

_ITEM_BYTES = {
    "Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Byte": 1, "Char": 1, "Short": 2, "Int": 4,
    "Long": 8, "Bool": 1, "QInt8": 1, "QUInt8": 1, "QInt32": 4, "ComplexFloat": 8,
    "ComplexDouble": 16,
}  # fmt: skip
_FOLDERS = {"data.pkl": "data", "constants.pkl": "constants"}
_MISREAD = (ValueError, TypeError, IndexError, KeyError, UnicodeError, OverflowError)
_MARK = object()
# Opcodes that put a value of their own on the stack.
_VALUES = frozenset(
    {
        "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING",
        "BINSTRING", "SHORT_BINUNICODE", "GLOBAL",
    }
)  # fmt: skip
_CONSTANTS: dict[str, Any] = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "EMPTY_LIST": None,
    "EMPTY_DICT": None, "MARK": _MARK,
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DROPPED = {"BUILD": 1, "APPEND": 1, "SETITEM": 2}
_NOTHING = frozenset({"PROTO", "STOP", "FRAME"})


def check_storages(members: Members, name: str) -> None:
    """Refuse an archive whose tensors are larger than their numbers.

    Raises
    ------
    WeightsError
        If there is such a tensor, or what describes them cannot be read.
    """
    for described, folder in _FOLDERS.items():
        try:
            _Reader(members, folder).read(members[described])
        except _MISREAD as error:
            raise WeightsError(
                f"{name}: what {described} says of its tensors does not fit the numbers that are "
                f"there, or cannot be read ({error}). Save the program again."
            ) from error


class _Reader:
    """Follows the stack of a pickle, as far as tensors need it."""

    def __init__(self, members: Members, folder: str) -> None:
        self._members, self._folder = members, folder
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self, content: bytes) -> None:
        for opcode, argument, _ in pickletools.genops(content):
            self._follow(opcode.name, argument)

    def _follow(self, name: str, argument: Any) -> None:  # noqa: ANN401
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(self._above_mark()))
        elif name in ("APPENDS", "SETITEMS"):
            self._above_mark()
        elif name in _DROPPED:
            del stack[-_DROPPED[name] :]
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, made = stack.pop(), stack.pop()
            stack.append(self._made(made, arguments))
        elif name not in _NOTHING:
            raise ValueError(f"{name} was not expected")

    def _above_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        found = self._stack[at + 1 :]
        del self._stack[at:]
        return found

    def _storage(self, described: tuple[Any, ...]) -> _Storage:
        _, kind, key, _, n_numbers = described
        item = _ITEM_BYTES[kind.split()[-1].removesuffix("Storage")]
        content = self._members[f"{self._folder}/{key}"]
        if not 0 <= n_numbers * item <= len(content):
            raise ValueError(f"{n_numbers} numbers in {len(content)} bytes")
        return _Storage(n_numbers)

    def _made(self, made: object, arguments: tuple[Any, ...]) -> object:
        """What a call would give: of tensors it is known that they lie in their storage."""
        if not (isinstance(arguments, tuple) and arguments and isinstance(arguments[0], _Storage)):
            return None
        storage, offset, sizes, strides = arguments[:4]
        if min((offset, *sizes, *strides), default=0) < 0 or len(sizes) != len(strides):
            raise ValueError(f"a tensor of {sizes} with strides {strides} at {offset}")
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if math.prod(sizes) and last >= storage.n_numbers:
            raise ValueError(f"a tensor of {sizes} in {storage.n_numbers} numbers")
        return None


class _Storage:
    """How many numbers there are."""

    def __init__(self, n_numbers: int) -> None:
        self.n_numbers = n_numbers
