"""Libraries that only some users need: they come with an extra of the package."""

from __future__ import annotations

from importlib.util import find_spec

from napari_structseg.errors import InputError


def require(module: str, *, extra: str, what: str) -> None:
    """Refuse, with the way out, where a library of an extra is missing.

    Parameters
    ----------
    module
        The module that is going to be imported, such as ``"pydicom"``.
    extra
        The extra that brings it.
    what
        What it is needed for, as the beginning of a sentence: ``"DICOM files"``.

    Raises
    ------
    InputError
        If the module is not installed.
    """
    if find_spec(module) is None:
        raise InputError(
            f"{what} need the library {module.partition('.')[0]}, which is not installed. "
            f"Install it with: pip install 'napari-structseg[{extra}]'."
        )
