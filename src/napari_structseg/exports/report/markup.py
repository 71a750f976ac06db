"""HTML as a tree: text is escaped wherever it stands, so that no name can become a tag."""

from __future__ import annotations

from html import escape
from typing import NewType

Markup = NewType("Markup", str)
"""HTML that :func:`element` or :func:`empty` made."""

Content = str | tuple[Markup, ...]
"""Text, which is escaped, or elements."""


def element(name: str, content: Content = (), /, **attributes: str) -> Markup:
    """One element with its content.

    Parameters
    ----------
    name
        Of the tag.
    content
        Text, or elements.
    **attributes
        Their values are escaped, too; an underscore stands for a dash, and one at the end is left
        out (``class_``).
    """
    inner = escape(content) if isinstance(content, str) else "".join(content)
    return Markup(f"<{name}{_written(attributes)}>{inner}</{name}>")


def empty(name: str, /, **attributes: str) -> Markup:
    """One element that has no content, such as ``meta``."""
    return Markup(f"<{name}{_written(attributes)}/>")


def words(text: str) -> Markup:
    """Text between elements."""
    return Markup(escape(text))


def style(rules: str) -> Markup:
    """The rules of a page: our own, never text from a file."""
    return Markup(f"<style>{rules}</style>")


def _written(attributes: dict[str, str]) -> str:
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
    )
