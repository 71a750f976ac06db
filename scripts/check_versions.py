"""Try the project with the lowest versions that it declares, or with the newest there are.

Makes a clean environment, installs the project into it, and runs the tests, or some of them:

    scripts/check_versions.py lowest
    scripts/check_versions.py newest -- tests/test_nifti.py -x

torch stays at its pin in constraints.txt, unless the address of an index of torch's CPU wheels is
given with --torch-index: a newer torch from PyPI brings several gigabytes of CUDA with it on Linux.

It needs the network, some gigabytes of disk and as long as the tests take, so `.ci/run` leaves it
out; CI runs it on request.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("demo", "graphcut", "max-margin", "qt", "test")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(.*)")
_AT_LEAST = re.compile(r">=\s*([0-9][0-9A-Za-z.]*)")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$", re.MULTILINE)


def main() -> int:
    """Make the environment and run the tests; the exit status is theirs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("end", choices=("lowest", "newest"), help="which versions")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="NAME",
        help="a package that stays at its pin in constraints.txt; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--torch-index", metavar="URL",
        help="take torch's lowest or newest version, from this index of CPU wheels",
    )  # fmt: skip
    parser.add_argument("--only-install", action="store_true", help="do not run the tests")
    parser.add_argument("--folder", type=Path, help="where to make the environment, and keep it")
    parser.add_argument("tests", nargs="*", help="arguments of pytest, behind --")
    options = parser.parse_args()
    keep = options.keep if options.torch_index else [*options.keep, "torch"]
    with tempfile.TemporaryDirectory(prefix="versions-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        constraints = folder / "constraints.txt"
        lines = constraints_of(options.end, keep)
        constraints.write_text("".join(f"{line}\n" for line in lines))
        sys.stdout.write(f"{options.end}: {', '.join(lines) or 'no constraints'}\n")
        sys.stdout.flush()
        python = _environment(folder / "venv", constraints, options.torch_index)
        installed = [python, "-m", "pip", "list", "--format", "freeze", "--exclude-editable"]
        subprocess.run(installed, check=True)
        status = 0
        if not options.only_install:
            command = [python, "-m", "pytest", *options.tests]
            if sys.platform == "linux" and not os.environ.get("DISPLAY"):
                screen = ["xvfb-run", "-a", "-s", "-screen 0 1920x1200x24"]
                command = [*(screen if shutil.which("xvfb-run") else []), *command]
            status = subprocess.run(command, cwd=ROOT, check=False).returncode
    return status


def constraints_of(end: str, keep: list[str]) -> list[str]:
    """One line for each package that must not be what pip would choose."""
    pins = {_normal(name): pin for name, pin in _PIN.findall(_text("constraints.txt"))}
    kept = {_normal(name) for name in keep}
    lines = [f"{name}=={pins[name]}" for name in sorted(kept)]
    if end == "lowest":
        lowest = {name: version for name, version in _declared() if name not in kept}
        lines += [f"{name}=={version}" for name, version in sorted(lowest.items())]
    return lines


def _declared() -> list[tuple[str, str]]:
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    named = [*project["dependencies"]]
    for extra in EXTRAS:
        named += project["optional-dependencies"][extra]
    found = []
    for one in named:
        parts = _REQUIREMENT.match(one)
        least = parts and _AT_LEAST.search(parts[2])
        if parts and least:
            found.append((_normal(parts[1]), least[1]))
    return found


def _environment(folder: Path, constraints: Path, torch_index: str | None) -> str:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    pip = [python, "-m", "pip", "install", "--quiet"]
    # The pip of a Python of some years ago resolves slowly.
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    project = f"{ROOT}[{','.join(EXTRAS)}]"
    # An old source distribution would be compiled, for minutes and perhaps in vain.
    options = ["--only-binary", ":all:", "-c", str(constraints)]
    if torch_index is not None:
        options += ["--extra-index-url", torch_index]
    subprocess.run([*pip, *options, "-e", project], check=True)
    return python


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
