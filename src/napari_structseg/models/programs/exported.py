"""torch.export programs: their graph is read as data, and run operation by operation.

torch's own reader evaluates texts of the file as Python, looks functions up by any name, and
unpickles. This one reads JSON and raw numbers, and calls what is named ``torch.ops.aten``, and
arithmetic on sizes. So there is nothing in such a file that could run anything else.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_structseg.errors import WeightsError
from napari_structseg.models.programs.archive import Members

_MAJOR_VERSION = 8
_OPERATION = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_FILES = frozenset({"save", "from_file", "_save", "from_file_out"})
_OF_SIZES: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem",
            "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_",
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("floor", "ceil", "trunc")},
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}  # fmt: skip
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_LAYOUTS = {7: torch.strided}
_MISREAD = (KeyError, ValueError, TypeError, IndexError, AttributeError, StopIteration)

_Values = dict[str, Any]
_Argument = Callable[[_Values], Any]


@dataclass(frozen=True, slots=True)
class _Node:
    """One operation.

    Attributes
    ----------
    call
        The operation.
    arguments
        By name; those without a name, in order, by "".
    outputs
        Names of what it returns; several where that is a sequence.
    last
        Names of values that nothing needs after it.
    """

    call: Callable[..., Any]
    arguments: list[tuple[str, _Argument]]
    outputs: str | list[str]
    last: list[str]


class Exported:
    """A program that torch.export saved.

    Parameters
    ----------
    members
        Of its archive.
    name
        For messages.
    device
        Where it runs, wherever it was saved.

    Raises
    ------
    WeightsError
        If it is damaged, of another version, or uses anything but the operations of torch.
    """

    def __init__(self, members: Members, name: str, device: torch.device) -> None:
        self._name, self._device = name, device
        try:
            self._read(members)
        except _MISREAD as error:
            raise WeightsError(
                f"{name} cannot be read as a torch.export program ({type(error).__name__}: "
                f"{error}). Save it again with torch.export.save."
            ) from error
        except RuntimeError as error:
            raise WeightsError(f"{name} holds a tensor that is damaged ({error}).") from error

    def __call__(self, x: Tensor) -> Any:  # noqa: ANN401 -- whatever it returns
        """What the program returns for one input."""
        self._check_size(x)
        values: _Values = {**self._constants, self._input: x}
        with torch.no_grad():
            for node in self._nodes:
                plain = [one(values) for name, one in node.arguments if not name]
                named = {name: one(values) for name, one in node.arguments if name}
                found = node.call(*plain, **named)
                if isinstance(node.outputs, str):
                    values[node.outputs] = found
                else:
                    values.update(zip(node.outputs, found, strict=True))
                for one in node.last:
                    values.pop(one, None)
        leaves = iter([values[one] for one in self._outputs])
        return _shaped(self._tree, leaves)

    def _read(self, members: Members) -> None:
        found = [one for one in members if re.fullmatch(r"models/[^/]+\.json", one)]
        if len(found) != 1:
            raise WeightsError(f"{self._name} holds {len(found)} programs, but one was expected.")
        model = _json(members[found[0]], self._name)
        version = model["schema_version"]["major"]
        if version != _MAJOR_VERSION:
            raise WeightsError(
                f"{self._name} was saved in version {version} of the format of torch.export, but "
                f"only {_MAJOR_VERSION} is read. Save it with the torch that is installed here."
            )
        title = found[0].removeprefix("models/").removesuffix(".json")
        graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
        tensors = {
            **_tensors(members, f"data/weights/{title}_weights_config.json", "data/weights"),
            **_tensors(members, f"data/constants/{title}_constants_config.json", "data/constants"),
        }
        inputs, self._constants = [], {}
        for entry in signature["input_specs"]:
            ((kind, spec),) = entry.items()
            if kind == "user_input":
                inputs.append(spec["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                tensor = tensors[spec[f"{kind}_name"]]
                self._constants[spec["arg"]["name"]] = tensor.to(self._device)
            else:
                raise WeightsError(f"{self._name} takes a {kind}, which only Python could give it.")
        if len(inputs) != 1:
            raise WeightsError(f"{self._name} takes {len(inputs)} inputs, but one was expected.")
        (self._input,) = inputs
        self._sizes = graph["tensor_values"][self._input]["sizes"]
        self._outputs = [
            spec["user_output"]["arg"]["as_tensor"]["name"]
            for spec in signature["output_specs"]
            if "user_output" in spec
        ]
        called = model["graph_module"]["module_call_graph"][0]["signature"]
        self._tree = _json(called["out_spec"].encode(), self._name)[1]
        self._nodes = self._with_last_uses([self._node(one) for one in graph["nodes"]], graph)

    def _node(self, node: Mapping[str, Any]) -> _Node:
        arguments = [(str(one["name"]), self._argument(one["arg"])) for one in node["inputs"]]
        names = [name for output in node["outputs"] for name in _output_names(output)]
        several = len(names) != 1 or "as_tensors" in node["outputs"][0]
        return _Node(self._operation(node["target"]), arguments, names if several else names[0], [])

    def _operation(self, target: str) -> Callable[..., Any]:
        if target in _OF_SIZES:
            return _OF_SIZES[target]
        named = _OPERATION.fullmatch(target)
        if named is None or named[1] in _FILES or not _exists(named):
            raise WeightsError(
                f"{self._name} uses {target!r:.80}, which is no operation on tensors of the torch "
                "that is installed here. Export the network for inference, without libraries of "
                "its own."
            )
        found: Callable[..., Any] = getattr(getattr(torch.ops.aten, named[1]), named[2])
        return found

    def _argument(self, argument: Mapping[str, Any]) -> _Argument:
        ((kind, value),) = argument.items()
        if kind == "as_device":
            # It runs where the model runs, not where it was saved.
            return _constant(self._device)
        if kind not in _ARGUMENTS:
            raise WeightsError(f"{self._name} uses {kind.removeprefix('as_')}, which is not read.")
        return _ARGUMENTS[kind](value)

    @staticmethod
    def _with_last_uses(nodes: list[_Node], graph: Mapping[str, Any]) -> list[_Node]:
        """Say of each node what nothing needs after it, so that it can be let go."""
        kept = {one["as_tensor"]["name"] for one in graph["outputs"] if "as_tensor" in one}
        for node, entry in reversed(list(zip(nodes, graph["nodes"], strict=True))):
            outputs = [node.outputs] if isinstance(node.outputs, str) else node.outputs
            used = {*_names(entry["inputs"]), *outputs}
            node.last.extend(used - kept)
            kept |= used
        return nodes

    def _check_size(self, x: Tensor) -> None:
        wanted = [size.get("as_int") for size in self._sizes]
        fits = len(wanted) == x.ndim and all(
            ours is None or ours == theirs for ours, theirs in zip(wanted, x.shape, strict=True)
        )
        if not fits:
            sizes = " x ".join("any" if one is None else str(one) for one in wanted)
            raise ValueError(f"it was exported for an input of {sizes}")


def _tensors(members: Members, config: str, folder: str) -> dict[str, Tensor]:
    """Tensors as raw numbers, by name."""
    if config not in members:
        return {}
    entries = _json(members[config], config)["config"]
    return {name: _tensor(members, entry, folder) for name, entry in entries.items()}


def _tensor(members: Members, entry: Mapping[str, Any], folder: str) -> Tensor:
    if entry["use_pickle"]:
        raise WeightsError(
            f"{entry['path_name']!r:.80} is a pickle, which is not opened. Export the network with "
            "plain tensors as weights."
        )
    meta, content = entry["tensor_meta"], members[f"{folder}/{entry['path_name']}"]
    sizes, strides = ([int(one["as_int"]) for one in meta[name]] for name in ("sizes", "strides"))
    dtype = _DTYPES[meta["dtype"]]
    if not content and math.prod(sizes) == 0:
        return torch.zeros(sizes, dtype=dtype)
    flat = torch.frombuffer(bytearray(content), dtype=dtype)
    # No larger than what is there, whatever the strides are.
    if math.prod(sizes) > flat.numel():
        raise ValueError(f"a tensor of {sizes} does not fit into {len(content)} bytes")
    return flat.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"]))


def _json(content: bytes, name: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name} is damaged: its graph is no JSON ({error}).") from error


def _exists(named: re.Match[str]) -> bool:
    packet: Any = getattr(torch.ops.aten, named[1], None)
    return named[2] in (packet.overloads() if hasattr(packet, "overloads") else ())


def _output_names(output: Mapping[str, Any] | None) -> list[str]:
    if output is None:
        return []
    ((kind, value),) = output.items()
    if kind == "as_tensors":
        return [one["name"] for one in value]
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return [value["as_name"]]
    if kind == "as_optional_tensor":
        return _output_names(value)
    return [value["name"]] if kind == "as_tensor" else [""]


def _names(entry: object) -> Iterator[str]:
    """Every name of a value in the arguments of a node."""
    if isinstance(entry, Mapping):
        for key, value in entry.items():
            if key in ("name", "as_name") and isinstance(value, str):
                yield value
            else:
                yield from _names(value)
    elif isinstance(entry, list):
        for one in entry:
            yield from _names(one)


def _constant(value: Any) -> _Argument:  # noqa: ANN401
    return lambda _values: value


def _of_symbol(entry: Mapping[str, Any]) -> _Argument:
    ((kind, value),) = entry.items()
    return operator.itemgetter(value) if kind == "as_name" else _constant(value)


def _sequence(parts: Sequence[_Argument]) -> _Argument:
    return lambda values: [one(values) for one in parts]


def _tensor_name(entry: Mapping[str, Any]) -> _Argument:
    return operator.itemgetter(entry["name"])


def _optional(entry: Mapping[str, Any]) -> _Argument:
    ((kind, value),) = entry.items()
    return _constant(None) if kind == "as_none" else _tensor_name(value)


def _each(of: Callable[[Any], _Argument]) -> Callable[[Sequence[Any]], _Argument]:
    return lambda entries: _sequence([of(one) for one in entries])


# What an argument of an operation can be, and how it is found among the values.
_ARGUMENTS: dict[str, Callable[[Any], _Argument]] = {
    **dict.fromkeys(
        (
            "as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string",
            "as_strings",
        ),
        _constant,
    ),
    "as_none": lambda _: _constant(None),
    "as_tensor": _tensor_name,
    "as_tensors": _each(_tensor_name),
    "as_optional_tensor": _optional,
    "as_optional_tensors": _each(_optional),
    **dict.fromkeys(("as_sym_int", "as_sym_float", "as_sym_bool"), _of_symbol),
    **dict.fromkeys(("as_sym_ints", "as_sym_floats"), _each(_of_symbol)),
    "as_scalar_type": lambda value: _constant(_DTYPES[value]),
    "as_memory_format": lambda value: _constant(_MEMORY_FORMATS[value]),
    "as_layout": lambda value: _constant(_LAYOUTS[value]),
}  # fmt: skip


def _shaped(tree: Mapping[str, Any], leaves: Iterator[Any]) -> Any:  # noqa: ANN401
    """Outputs in the tuple, list or dict that the network returned."""
    kind = tree["type"]
    if kind is None:
        return next(leaves)
    children = [_shaped(one, leaves) for one in tree["children_spec"]]
    if kind == "builtins.dict":
        return dict(zip(json.loads(tree["context"]), children, strict=True))
    return tuple(children)
