"""`structseg sessions`: what the Correct dock has kept, and how to get it without a window."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_structseg.errors import ConfigError, InputError

if TYPE_CHECKING:
    from napari_structseg.correction.folders import Found


def sessions(
    session: Path | None = None,
    /,
    *,
    image: Path | None = None,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List the sessions of corrections that were kept, or save the result of one.

    Parameters
    ----------
    session
        Folder of one session; without it, all are listed.
    image
        The image that was corrected.
    out
        Where to save the result of the session: a name that ends in .nii.gz. The volumes and what
        was done are written beside it.
    as_json
        Print JSON, for other programs.
    """
    from napari_structseg.correction.folders import find_sessions, look_at, sessions_root

    if (image is None) != (out is None) or (out is not None and session is None):
        raise ConfigError("Saving a result needs all three: the session's folder, --image, --out.")
    if session is None:
        _print(find_sessions(sessions_root()), as_json=as_json)
    elif image is None or out is None:
        found = look_at(session)
        if found.error is not None:
            raise found.error
        _print([found], as_json=as_json)
    else:
        _save(session, image, out)


def _save(folder: Path, image_path: Path, out: Path) -> None:
    from napari_structseg.correction.export import save_result
    from napari_structseg.correction.identity import identify
    from napari_structseg.correction.journal import read_work
    from napari_structseg.io.images import read_image
    from napari_structseg.results.kept_files import check_name

    check_name(out)
    work = read_work(folder)
    image = read_image(image_path)
    # One of several channels is enough: what counts is where the voxels lie.
    if identify(image).grid != work.header.image.grid:
        raise InputError(
            f"The session belongs to {work.header.image.name}, whose voxels lie otherwise than "
            f"those of {image_path}. Give the image that was corrected."
        )
    source = None if work.recipe is None else _json_object(work.recipe)
    classes = work.header.classes
    paths = save_result(out, work.correction, image, classes, image_path=image_path, source=source)
    sys.stdout.write("".join(f"{path}\n" for path in paths))


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _print(found: list[Found], *, as_json: bool) -> None:
    rows = [
        {
            "folder": str(one.folder),
            "image": None if one.header is None else one.header.image.name,
            "file": None if one.header is None else one.header.image.path,
            "changed": one.changed.isoformat(timespec="seconds"),
            "unsaved_actions": one.n_unsaved,
            "open": one.is_open,
            "error": None if one.error is None else str(one.error),
        }
        for one in found
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    for row in rows:
        what = row["error"] or f"{row['image']}, {row['unsaved_actions']} unsaved actions"
        is_open = ", open now" if row["open"] else ""
        sys.stdout.write(f"{row['changed']}  {row['folder']}\n  {what}{is_open}\n")
    if not rows:
        sys.stdout.write("No sessions were kept.\n")
