"""The documentation site: its pages, its reference, and that it is read without a network."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import napari_structseg
from conftest import REPOSITORY


@pytest.fixture(scope="module")
def scripts() -> Iterator[None]:
    """The scripts can be imported, as mkdocs imports them."""
    pytest.importorskip("mkdocs", reason="the site needs the extra docs")
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    yield
    sys.path.remove(str(REPOSITORY / "scripts"))


@pytest.fixture(scope="module")
def site(scripts) -> ModuleType:
    import site_pages

    return site_pages


@pytest.fixture(scope="module")
def reference(scripts) -> dict[str, str]:
    import site_reference

    return site_reference.reference_pages()


def test_every_extra_stands_on_the_page_on_installing() -> None:
    page = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {name: {Requirement(one).name for one in needed} for name, needed in extras.items()}
    assert {name: {*listed.split(", ")} for name, listed in rows.items()} == declared
    (all_of,) = (Requirement(one).extras for one in extras["all"])
    (said,) = re.findall(r"^\| `all` \| all of (.*?) \|", page, re.MULTILINE)
    assert {*re.findall(r"`([\w-]+)`", said)} == all_of


def test_every_page_is_in_the_navigation() -> None:
    nav = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = {*re.findall(r"[\w/.-]+\.md", nav)}
    docs = REPOSITORY / "docs"
    assert {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} <= named


@pytest.mark.parametrize(
    ("page", "link", "leads_to"),
    [
        ("training.md", "evaluation.md#what", "evaluation.md#what"),
        ("tutorials/new.md", "../training.md", "../training.md"),
        ("index.md", "../src/napari_structseg/weights/lung-nodule.md", "models/lung-nodule.md"),
        ("project/changelog.md", "docs/correct.md", "../correct.md"),
        ("project/contributing.md", "CHANGELOG.md", "changelog.md"),
        ("index.md", "images/explore.png", "images/explore.png"),
        ("index.md", "https://napari.org", "https://napari.org"),
        ("index.md", "not-there.md", "not-there.md"),
    ],
)
def test_links_lead_to_pages_of_the_site(site, page: str, link: str, leads_to: str) -> None:
    code = f"```text\n[x]({link})\n```\n"
    text = site.with_links_of_the_site(f"[x]({link})\n{code}", page)
    assert text == f"[x]({leads_to})\n{code}"


def test_links_to_code_lead_to_the_repository(site) -> None:
    text = site.with_links_of_the_site("[x](../src/napari_structseg/cli.py)", "index.md")
    assert text == f"[x]({site.REPOSITORY}/src/napari_structseg/cli.py)"


def test_what_a_browser_would_fetch_is_found(site) -> None:
    page = '<a href="https://napari.org">napari</a><img src="images/a.png"><link href="a.css">'
    assert site.fetched(page) == []
    assert site.fetched(page + '<script src="https://unpkg.com/shim"></script>')
    assert site.fetched(page + '<link rel="stylesheet" href="https://fonts.example/x">')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[x](other.md#here)", None),
        ("[x](other.md#nowhere)", "does not contain an anchor '#nowhere'"),
        ("[x](nothing.md)", "'nothing.md'"),
    ],
)
def test_a_dead_link_ends_the_build(scripts, tmp_path: Path, text: str, says: str | None) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (options,) = re.findall(r"-m mkdocs (build.*)", makefile)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(text)
    (tmp_path / "docs" / "other.md").write_text("# Other\n\n## Here\n")
    # Our settings for links and anchors, with two small pages.
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {REPOSITORY / 'mkdocs.yml'}\nhooks: []\nplugins: []\n"
        "theme: {name: mkdocs}\nnav: [index.md, other.md]\n"
    )
    finished = subprocess.run(
        [sys.executable, "-m", "mkdocs", *options.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode == 0) is (says is None), finished.stderr
    assert says is None or says in finished.stderr


def test_every_public_name_is_in_the_reference_once(reference) -> None:
    headings = re.findall(r"^## (\w+)$", "\n".join(reference.values()), re.MULTILINE)
    assert sorted(headings) == sorted({*napari_structseg.__all__} - {"__version__"})


def test_the_reference_has_calls_arguments_errors_and_fields(reference) -> None:
    files, rendering = reference["reference/files.md"], reference["reference/rendering.md"]
    assert "write_volume(path, array, geometry, *, dtype=None, description='')" in files
    assert re.search(r"^\| `geometry` \| Of the image that", files, re.MULTILINE)
    assert re.search(r"^\| `InputError` \| If the name, the shape", files, re.MULTILINE)
    assert "### Image.with_spacing()" in files
    assert re.search(r"^\| `temperature` \| `1\.0` \| \w", rendering, re.MULTILINE)
    # Options that share a paragraph of the docstring have a row each.
    assert re.search(r"^\| `temperature` \| ", reference["reference/models.md"], re.MULTILINE)
    assert re.search(r"(?<!`)``(?!`)|:\w+:`", "\n".join(reference.values())) is None
