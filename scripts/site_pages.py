"""Pages of the site that do not lie in docs/: a hook of mkdocs, named in mkdocs.yml.

The reference is written from docstrings; the cards of the shipped models, the changelog and the
page for contributors lie elsewhere in the repository. Links in any page are written as GitHub
follows them. Here those that leave docs/ become links to the pages of the site, or to the
repository where it has no such page.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from site_reference import reference_pages

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/napari-structseg/napari-structseg/blob/main"
CARDS = "src/napari_structseg/weights"
# Page of the site: the file of the repository that it shows.
SHOWN = {
    "models/brain-tissue.md": f"{CARDS}/brain-tissue.md",
    "models/lung-nodule.md": f"{CARDS}/lung-nodule.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
}
# A warning fails a strict build.
LOGGER = logging.getLogger("mkdocs.hooks.site_pages")
_FETCHED = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=["']?https?:[^"'\s>]*""")
_LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for page, source in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for page, text in reference_pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links that leave docs/ links of the site."""
    del config, files
    return with_links_of_the_site(markdown, page.file.src_uri)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn of a page that would load something over a network."""
    del config
    for found in fetched(output):
        LOGGER.warning("%s would load over a network: %s", page.file.src_uri, found)
    return output


def fetched(html: str) -> list[str]:
    """What of a page a browser would load from elsewhere; links to follow are not counted."""
    return [found for found in _FETCHED.findall(html) if 'rel="canonical"' not in found]


def with_links_of_the_site(markdown: str, page: str) -> str:
    """The text of a page with links that hold within the site.

    Parameters
    ----------
    markdown
        As GitHub shows it.
    page
        Its path in the site, such as ``training.md``.
    """
    source = SHOWN.get(page, f"docs/{page}")

    def target(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        return link(meant, page) + anchor if (ROOT / meant).exists() else found[0]

    # Code is shown as it is.
    pieces, end = [], 0
    for code in _CODE.finditer(markdown):
        pieces += [_LINK.sub(target, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, _LINK.sub(target, markdown[end:])])


def link(meant: str, page: str) -> str:
    """How a page links to a file of the repository."""
    here = posixpath.dirname(page) or "."
    for shown, source in SHOWN.items():
        if source == meant:
            return posixpath.relpath(shown, here)
    if meant.startswith("docs/"):
        return posixpath.relpath(meant.removeprefix("docs/"), here)
    return f"{REPOSITORY}/{meant}"
