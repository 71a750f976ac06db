"""TorchScript programs: their code is read before it is compiled, and runs no Python.

TorchScript has tensors, loops, and the operations of torch; it knows no files, processes or
network, with two exceptions that can write a file. Code that names those is refused, and so are
classes and operations of libraries other than torch itself. What remains can take long, or much
memory, but reaches nothing outside.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from napari_structseg.errors import WeightsError
from napari_structseg.models.programs.archive import Members, packed
from napari_structseg.models.programs.storages import check_storages

# The operations of torch that open files, whatever they are called on.
_FILES = frozenset({"save", "from_file"})
_NAMESPACES = frozenset({"aten", "prim", "quantized"})
_CODE = "code/"


def check_code(members: Members, name: str) -> None:
    """Refuse code that could reach beyond the program.

    Raises
    ------
    WeightsError
        If there is such code, or code that cannot be read.
    """
    for path, content in members.items():
        if not path.endswith(".py"):
            continue
        try:
            tree = ast.parse(content.decode())
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise WeightsError(
                f"{name}: its code {path.removeprefix(_CODE)} cannot be read ({error}). Save the "
                "program again with torch.jit.save."
            ) from error
        for found in _reaching_out(tree):
            raise WeightsError(
                f"{name}: its code {path.removeprefix(_CODE)} uses {found}, which can reach files "
                "or libraries outside the program. Remove it from the network, and save it again."
            )


def open_torchscript(
    members: Members, name: str, device: torch.device
) -> Callable[[torch.Tensor], Any]:
    """A function that runs the program's ``forward``.

    Raises
    ------
    WeightsError
        If it cannot be opened.
    """
    check_code(members, name)
    check_storages(members, name)
    try:
        with warnings.catch_warnings():
            # Newer versions of torch prefer torch.export; what exists goes on to work.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(packed(members), map_location=device)
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise WeightsError(
            f"{name} cannot be opened as TorchScript ({str(error).strip().splitlines()[0]:.200}). "
            "Save it again with this version of torch or an older one."
        ) from error
    if not hasattr(module, "forward"):
        raise WeightsError(f"{name} has no function 'forward'. Save a network with torch.jit.save.")
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    opened: Callable[[torch.Tensor], Any] = module.eval()
    return opened


def _reaching_out(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            base = node.value
            if node.attr in _FILES:
                yield repr(node.attr)
            elif isinstance(base, ast.Name) and base.id == "ops" and node.attr not in _NAMESPACES:
                yield f"operations of {node.attr!r}"
            elif node.attr == "classes" and isinstance(base, ast.Attribute | ast.Name):
                yield "classes of a library"
        elif isinstance(node, ast.Constant) and node.value in _FILES:
            # What getattr would be given.
            yield repr(node.value)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield "an import"
