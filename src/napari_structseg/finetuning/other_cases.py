"""Sessions of other images with the same classes, whose corrections can be learned from, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_structseg.correction.folders import find_sessions
from napari_structseg.correction.identity import identify
from napari_structseg.image import Image


@dataclass(frozen=True, slots=True)
class OtherCase:
    """A session of another image.

    Attributes
    ----------
    folder
        Of the session.
    name
        Of its image.
    changed
        When it was corrected last, in UTC.
    """

    folder: Path
    name: str
    changed: datetime


def other_cases(root: Path, class_names: Sequence[str], shown: Image) -> list[OtherCase]:
    """The newest session of every other image whose file is still there.

    Parameters
    ----------
    root
        Of all sessions.
    class_names
        In label order; sessions of other classes are left out.
    shown
        The image whose corrections are at hand already.
    """
    own = identify(shown).content
    seen, found = {own}, []
    for one in find_sessions(root):
        header = one.header
        if header is None or header.image.content in seen:
            continue
        if [spec.name for spec in header.classes] != list(class_names):
            continue
        path = header.image.path
        if path is None or not Path(path).is_file():
            continue
        seen.add(header.image.content)
        found.append(OtherCase(one.folder, header.image.name, one.changed))
    return found
