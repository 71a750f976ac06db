"""Build the wheel and try it where nothing but the wheel and its pinned dependencies is installed.

Run from the development environment: ``.venv/bin/python scripts/smoke_wheel.py``. No Qt binding is
installed in the clean environment, so what passes here works for a command-line user without one.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "napari_structseg"
DEMO_MODEL = "brain-tissue"

logger = logging.getLogger("smoke_wheel")


class SmokeError(Exception):
    """The wheel lacks something, or does not work."""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command in `cwd` and return what it printed; raise `SmokeError` where it fails."""
    words = [str(word) for word in command]
    logger.info("$ %s", shlex.join(words))
    finished = subprocess.run(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if finished.returncode:
        raise SmokeError(f"exit code {finished.returncode} from {words[0]}:\n{finished.stdout}")
    return finished.stdout


def build_wheel(folder: Path) -> Path:
    """Build the wheel into `folder` and return its path."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, cwd=REPOSITORY)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> list[str]:
    """Raise `SmokeError` where a data file of the package is missing; return the shipped models."""
    weights = [*PACKAGE.glob("weights/*.safetensors"), *PACKAGE.glob("weights/*.md")]
    expected = {PACKAGE / "napari.yaml", PACKAGE / "py.typed", *weights}
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    missing = {path.relative_to(PACKAGE.parent).as_posix() for path in expected} - shipped
    if missing:
        raise SmokeError(f"{wheel.name} lacks {', '.join(sorted(missing))}")
    return [path.stem for path in weights if path.suffix == ".safetensors"]


def check_installed(wheel: Path, models: list[str], folder: Path) -> None:
    """Install `wheel` into a new environment below `folder` and use it from there."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / "python"
    pinned = ("-c", str(REPOSITORY / "constraints.txt"))
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", *pinned, wheel, cwd=folder)

    run(python, "-c", "import napari_structseg, sys; sys.exit('torch' in sys.modules)", cwd=folder)
    run(scripts / "structseg", "--help", cwd=folder)
    version = run(scripts / "structseg", "--version", cwd=folder).strip()
    if version not in wheel.name:
        raise SmokeError(f"structseg --version says {version!r}, but the wheel is {wheel.name}")
    if DEMO_MODEL in models:
        run(scripts / "structseg", "info", DEMO_MODEL, cwd=folder)
    run(scripts / "npe2", "validate", "napari-structseg", cwd=folder)


def main() -> int:
    """Return 0 where the wheel works and 1, with the reason logged, where it does not."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with tempfile.TemporaryDirectory(prefix="structseg-wheel-") as name:
        folder = Path(name)
        try:
            wheel = build_wheel(folder)
            check_installed(wheel, check_contents(wheel), folder)
        except SmokeError as error:
            logger.error("error: %s", error)
            return 1
        logger.info("%s works in a clean environment", wheel.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
