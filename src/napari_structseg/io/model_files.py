"""Which file a model is: one that comes with the package, by name, or one of the user's."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from napari_structseg.errors import WeightsError


def shipped_models() -> dict[str, Path]:
    """Name and file of every model that comes with the package."""
    folder = resources.files("napari_structseg") / "weights"
    files = sorted(Path(str(folder)).glob("*.safetensors"))
    return {file.stem: file for file in files}


def find_model(name_or_file: str) -> Path:
    """Resolve the name of a shipped model, or the path of a file.

    Parameters
    ----------
    name_or_file
        For example ``brain-tissue``, or ``runs/mine/model.safetensors``.

    Raises
    ------
    WeightsError
        If it is neither, naming the shipped models.
    """
    shipped = shipped_models()
    if name_or_file in shipped:
        return shipped[name_or_file]
    try:
        path = Path(name_or_file).expanduser()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:
        # RuntimeError is what a home folder that does not exist raises.
        raise WeightsError(
            f"Cannot look for a model at {name_or_file!r}: {error}. Check the path, and that you "
            "may read the folder."
        ) from error
    if not is_file:
        raise WeightsError(
            f"There is no model called {name_or_file!r} and no such file. Shipped models: "
            f"{', '.join(shipped) or 'none'}. Or give the path of a .safetensors file, or of "
            "the .toml file beside a program."
        )
    return path
