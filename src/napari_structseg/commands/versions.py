"""`structseg versions`: the fine-tuned versions of models that were adopted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from napari_structseg.finetuning.versions import Version, Versions

versions = App(name="versions", help="Keep, list, compare and go back to versions of a model.")


@versions.command(name="list")
def list_(
    model: str | None = None,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List the versions of a model, or of all models that were fine-tuned.

    Parameters
    ----------
    model
        A file, or the name of a shipped one: any of its versions will do.
    as_json
        Print JSON, for other programs.
    """
    from napari_structseg.finetuning.families import families

    found = families() if model is None else [_family(model)]
    rows = [_row(family, one) for family in found for one in family.all()]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    for row in rows:
        mark = "*" if row["in_use"] else " "
        dice = "" if row["dice"] is None else f", Dice {row['dice']:.3f} on what was held out"
        sys.stdout.write(
            f"{mark} {row['model']} {row['number']}: {row['adopted']}, {row['steps']} steps{dice}\n"
            f"    {row['weights']}\n"
        )
    if not rows:
        sys.stdout.write("No version was adopted.\n")


@versions.command
def adopt(run: Path, /, *, note: str = "") -> None:
    """Keep the result of a fine-tuning run, and put it into use.

    Parameters
    ----------
    run
        Folder of a run that has finished.
    note
        What you say of it.
    """
    from napari_structseg.finetuning.families import adopt_run

    _say("In use", adopt_run(run, note=note))


@versions.command
def use(model: str, number: int, /) -> None:
    """Put a version into use; the others stay.

    Parameters
    ----------
    model
        A file, or the name of a shipped one: any of its versions will do.
    number
        Of the version; 0 is the model as it was first.
    """
    family = _family(model)
    _say("In use", family.use(family.find(number)))


@versions.command
def back(model: str, /) -> None:
    """Go back to the version that the one in use was made from.

    Parameters
    ----------
    model
        A file, or the name of a shipped one: any of its versions will do.
    """
    _say("In use", _family(model).go_back())


@versions.command
def export(model: str, number: int, /, *, out: Path) -> None:
    """Save the weights of a version as a file, to give them to others.

    Parameters
    ----------
    model
        A file, or the name of a shipped one: any of its versions will do.
    number
        Of the version.
    out
        A new file that ends in .safetensors.
    """
    family = _family(model)
    sys.stdout.write(f"{family.export(family.find(number), out)}\n")


@versions.command
def compare(model: str, first: int, second: int, /) -> None:
    """Say how two versions differ: what they reached, and how far apart their weights are.

    Parameters
    ----------
    model
        A file, or the name of a shipped one: any of its versions will do.
    first, second
        Numbers of the versions.
    """
    from napari_structseg.finetuning.comparison import compare as compared

    family = _family(model)
    found = compared(family.find(first), family.find(second))
    for one in (found.first, found.second):
        row = _row(family, one)
        after = one.record.corrections.after
        dice = "" if after is None else ", ".join(f"{k} {v:.3f}" for k, v in after.dice.items())
        held_out = one.record.held_out or "nothing"
        sys.stdout.write(
            f"version {row['number']}: {row['steps']} steps; Dice on {held_out}: "
            f"{dice or 'not measured'}\n"
        )
    sys.stdout.write(
        f"{found.n_changed} of {found.n_tensors} tensors differ; their distance is "
        f"{found.distance:.4g}, the norm of the first {found.norm:.4g}\n"
    )


@versions.command
def runs(
    *,
    prune: Annotated[bool, Parameter(negative="")] = False,
    unadopted: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List the fine-tuning runs of the dock that have nothing left to do, or delete them.

    Runs that can go on stay, and so do versions that were adopted: those are copies of their own.

    Parameters
    ----------
    prune
        Delete them, for good: those whose result was adopted, and those that failed.
    unadopted
        Delete those, too, that finished and whose result was not adopted.
    as_json
        Print JSON, for other programs.
    """
    from napari_structseg.finetuning.families import families
    from napari_structseg.finetuning.folders import done_runs, remove_run, runs_root

    found = done_runs(runs_root())
    adopted = {one.record.sha256 for family in families() for one in family.all()}
    goes = [one for one in found if unadopted or one.weights is None or one.weights in adopted]
    if prune:
        for one in goes:
            remove_run(one.folder)
    if as_json:
        rows = [
            {
                "folder": str(one.folder),
                "model": one.model_name,
                "ended": one.reason,
                "changed": one.changed.isoformat(timespec="seconds"),
                "bytes": one.n_bytes,
                "adopted": one.weights in adopted,
                "deleted": prune and not one.folder.exists(),
            }
            for one in found
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    for one in found:
        what = f"{one.reason}, {'' if one.weights in adopted else 'not '}adopted"
        if one.weights is None:
            what = one.reason
        if prune and not one.folder.exists():
            what = "deleted"
        sys.stdout.write(
            f"{one.model_name or 'unknown model'}: {what}, {one.n_bytes / 1e6:.0f} MB\n"
            f"    {one.folder}\n"
        )
    total = sum(one.n_bytes for one in goes) / 1e6
    if not found:
        sys.stdout.write("No run is there to be deleted.\n")
    elif not prune:
        sys.stdout.write(
            f"structseg versions runs --prune deletes {len(goes)} of {len(found)} "
            f"({total:.0f} MB).\n"
        )


def _family(model: str) -> Versions:
    from napari_structseg.finetuning.families import versions_of
    from napari_structseg.io.model_files import find_model

    return versions_of(find_model(model))


def _row(family: Versions, version: Version) -> dict[str, Any]:
    record = version.record
    after = record.corrections.after
    return {
        "model": record.model_name,
        "number": record.number,
        "in_use": version.folder == family.current.folder,
        "adopted": record.adopted,
        "steps": record.steps,
        "dice": None if after is None else after.mean_dice,
        "parent": record.parent,
        "sha256": record.sha256,
        "note": record.note,
        "weights": str(version.weights),
    }


def _say(what: str, version: Version) -> None:
    sys.stdout.write(f"{what}: version {version.record.number}, {version.weights}\n")
