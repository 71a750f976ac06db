"""docs/training.md says what the program does: the table of fields, and the example files."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from napari_structseg.models import LowRankSpec, head_kinds
from napari_structseg.priors import NetworkSpec, prior_kinds
from napari_structseg.training.config import TrainConfig

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training.md"
MARKS = ("<!-- fields of TrainConfig -->", "<!-- end of fields -->")


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name == "head":
            yield from kind_rows("head", LowRankSpec().kind, head_kinds())
            continue
        if name == "mrf":
            yield from kind_rows("prior", NetworkSpec().kind, prior_kinds())
            continue
        table = table_of(field.annotation)
        if table is not None and field.default is not None:
            yield from rows(table, f"{name}.")
            continue
        default = "required" if field.default is PydanticUndefined else f"`{toml(field.default)}`"
        choices = getattr(field.annotation, "__args__", ())
        named = all(isinstance(choice, str) for choice in choices) and len(choices) > 1
        allowed = " One of " + ", ".join(f"`{c}`" for c in choices) + "." if named else ""
        yield f"| `{prefix}{name}` | {default} | {field.description or ''}{allowed} |"
        if table is not None:
            yield from rows(table, f"{name}.")


def kind_rows(
    table: str, default_kind: str, classes: Mapping[str, type[BaseModel]]
) -> Iterator[str]:
    """The kinds of a table, and each of their fields with the kinds that have it."""
    kinds = {kind: of_kind.model_fields for kind, of_kind in classes.items()}
    said = " ".join(f"{kind}: {fields['kind'].description}" for kind, fields in kinds.items())
    yield f"| `{table}.kind` | `{toml(default_kind)}` | {said} |"
    for name in dict.fromkeys(name for fields in kinds.values() for name in fields):
        owners = {kind: fields[name] for kind, fields in kinds.items() if name in fields}
        if name != "kind":
            # That of new models, which is not always that of files of earlier versions.
            new = TrainConfig.model_fields["head"].default
            (default,) = {toml(getattr(new, name, field.default)) for field in owners.values()}
            (meaning,) = {field.description for field in owners.values()}
            of = ", ".join(f"`{kind}`" for kind in owners)
            whose = "" if len(owners) == len(kinds) else f" For {of}."
            yield f"| `{table}.{name}` | `{default}` | {meaning}{whose} |"


def table_of(annotation: object) -> type[BaseModel] | None:
    """The model of a table, also of one that may be left out."""
    for part in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def table() -> str:
    lines = ["| Field | Default | Meaning |", "|---|---|---|", *rows(TrainConfig)]
    return "\n".join(lines)


def test_every_field_is_documented_with_its_default() -> None:
    documented = PAGE.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]
    assert documented.strip() == table()


def examples() -> list[str]:
    blocks = PAGE.read_text(encoding="utf-8").split("```toml\n")[1:]
    return [block.partition("```")[0] for block in blocks]


@pytest.mark.parametrize("index", range(5))
def test_example_configurations_are_valid(index: int) -> None:
    config = TrainConfig.model_validate(tomllib.loads(examples()[index]))
    assert config.dimensions == (3, 2, 3, 3, 2)[index]
