"""The reference of the public API, written from its docstrings while the site is built.

What is public is what `napari_structseg.__all__` names. Docstrings are numpy style; the pages are
Markdown, and are not committed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from types import FunctionType

import docstring_parser
from docstring_parser.common import DocstringMeta, DocstringParam
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import napari_structseg

# Page: its title, and the names that it documents.
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "files": (
        "Images and files",
        ("read_image", "read_channels", "write_volume", "load_mni152", "Image", "Geometry"),
    ),
    "models": (
        "Models and prediction",
        (
            "predict",
            "predict_many",
            "reproduce",
            "load_model",
            "save_model",
            "build_network",
            "ModelSpec",
            "Predictor",
            "SlicePredictor",
            "RegionOfInterest",
        ),
    ),
    "distributions": (
        "Distributions",
        (
            "LogitDistribution",
            "LowRankNormal",
            "PointLogits",
            "FiniteSet",
            "LatentDecoder",
            "Noise",
        ),
    ),
    "rendering": (
        "Rendering and controls",
        ("make_controls", "Controls", "render_labels", "Renderer", "prior_for", "Refinement"),
    ),
    "training": (
        "Training and evaluation",
        ("train", "evaluate", "calibrate", "generalised_energy_distance"),
    ),
    "dock": ("The dock from Python", ("explorer", "Explorer")),
}
# The page of names that no page above has.
OTHERS = "models"


def reference_pages() -> dict[str, str]:
    """The Markdown of each page of the reference, by its path in the site."""
    sorted_in = {name for _, names in PAGES.values() for name in names}
    others = [name for name in napari_structseg.__all__ if name not in {*sorted_in, "__version__"}]
    return {
        f"reference/{page}.md": page_of(title, [*names, *(others if page == OTHERS else ())])
        for page, (title, names) in PAGES.items()
    }


def page_of(title: str, names: Iterable[str]) -> str:
    """One page with these public names."""
    parts = [f"# {title}", "Everything here is imported from `napari_structseg`."]
    for name in names:
        parts += entry(name, getattr(napari_structseg, name))
    return "\n\n".join(parts) + "\n"


def entry(name: str, what: object) -> Iterator[str]:
    """A heading, the call, and what the docstring says; of a class its public members, too."""
    yield f"## {name}"
    if not isinstance(what, type):
        yield call(name, what)
        yield from documented(what)
        return
    is_model = issubclass(what, BaseModel)
    if "__init__" in vars(what) and not is_model and not getattr(what, "_is_protocol", False):
        yield call(name, what)
    yield from documented(what)
    if issubclass(what, BaseModel):
        yield fields(what)
    for member, raw in members(what):
        found = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
        if isinstance(found, property):
            yield f"### {name}.{member}"
            yield from documented(found)
        else:
            yield f"### {name}.{member}()"
            yield call(f"{name}.{member}", found, method=not isinstance(raw, staticmethod))
            yield from documented(found)


def members(what: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties with a docstring, those of our own base classes included."""
    seen: set[str] = set()
    for owner in what.__mro__:
        if not owner.__module__.startswith("napari_structseg"):
            continue
        for name, raw in vars(owner).items():
            found = getattr(raw, "__func__", raw)
            if name.startswith("_") or name in seen:
                continue
            if isinstance(found, FunctionType | property) and inspect.getdoc(found):
                seen.add(name)
                yield name, raw


def call(name: str, what: object, *, method: bool = False) -> str:
    """How it is called, one argument in a line where they are many."""
    signature = inspect.signature(what)  # type: ignore[arg-type]
    arguments, named_only = [], False
    for argument in list(signature.parameters.values())[method:]:
        if argument.kind is argument.KEYWORD_ONLY and not named_only:
            named_only = True
            arguments.append("*")
        plain = argument.replace(annotation=argument.empty)
        arguments.append(re.sub(r"<[\w.]+\.(\w+)[^>]*>", r"\1", str(plain)))
        named_only = named_only or argument.kind is argument.VAR_POSITIONAL
    line = f"{name}({', '.join(arguments)})"
    if len(line) > 88:
        line = f"{name}(\n" + "".join(f"    {one},\n" for one in arguments) + ")"
    return f"```python\n{line}\n```"


def fields(model: type[BaseModel]) -> str:
    """A table of a settings model's fields."""
    rows = ["| Field | Unless given | Meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=False)
        shown = "needed" if default is PydanticUndefined and field.is_required() else repr(default)
        if field.default_factory is not None:
            shown = "made for it"
        elif shown != "needed":
            shown = f"`{cell(shown)}`"
        rows.append(f"| `{name}` | {shown} | {cell(field.description or '')} |")
    return "\n".join(rows)


def documented(what: object) -> Iterator[str]:
    """What a docstring says, as Markdown."""
    parsed = docstring_parser.parse(
        inspect.getdoc(what) or "", docstring_parser.DocstringStyle.NUMPYDOC
    )
    for text in (parsed.short_description, parsed.long_description):
        if text:
            yield markdown(text)
    if parsed.params:
        yield table("Argument", arguments(parsed.params))
    for returned in parsed.many_returns:
        said = ". ".join(filter(None, (returned.type_name, returned.description)))
        yield f"**Returns** {markdown(said)}"
    if parsed.raises:
        yield table("Raises", ((one.type_name, one.description) for one in parsed.raises))
    for note in parsed.meta:
        if type(note) is DocstringMeta and note.description:
            yield f"**{note.args[0].title()}**"
            yield markdown(note.description)
    for example in parsed.examples:
        code = "\n".join(filter(None, (example.snippet, example.description)))
        yield f"```pycon\n{code}\n```"


def arguments(params: Iterable[DocstringParam]) -> Iterator[tuple[str, str]]:
    """Names and what is said of them; options that share a paragraph come one by one."""
    for param in params:
        said = param.description or ""
        options = re.findall(r"^(\w+):\s((?:.|\n(?!\w+:\s))+)", said, re.MULTILINE)
        if param.arg_name.startswith("**") and options:
            yield from options
        else:
            yield param.arg_name, said


def table(kind: str, rows: Iterable[tuple[str | None, str | None]]) -> str:
    """Names and what is said of them."""
    lines = [f"| {kind} | |", "|---|---|"]
    lines += [f"| `{name}` | {cell(markdown(said or ''))} |" for name, said in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text in one line, as a table needs it."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def markdown(text: str) -> str:
    """Text of a docstring: its literals and roles in the way of Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    pieces = text.split("`")
    # What is not within backquotes is text, and no emphasis or tag.
    pieces[::2] = [re.sub(r"([*<])", r"\\\1", piece) for piece in pieces[::2]]
    return "`".join(pieces)
