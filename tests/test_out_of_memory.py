"""Running out of memory anywhere in a command ends with a message and code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_structseg.cli import app, main
from napari_structseg.priors import PriorSpec
from nifti_files import save
from tiny_models import tiny_model

# All is imported and has run once, so that the memory which is left is for the work. A child
# for each amount: what it lacks is given back.
LIMITED = """
import os, resource, sys
from napari_structseg.cli import main

folder, *sizes = sys.argv[1:]
run = ["predict", f"{folder}/T1.nii.gz", "--model", f"{folder}/tiny.safetensors", "--samples", "1"]
assert main([*run, "--out", f"{folder}/warm"]) == 0
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
for size in sizes:
    child = os.fork()
    if child == 0:
        limit = taken + int(size) * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        large = [*run, "--out", f"{folder}/{size}"]
        large[1] = f"{folder}/large.nii.gz"
        os._exit(main(large))
    print(size, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
SIZES = (2, 10, 40, 100, 200)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_no_traceback_however_little_is_left(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    save(tmp_path / "T1.nii.gz", rng.integers(1, 200, (8, 8, 8), dtype=np.int16))
    save(tmp_path / "large.nii.gz", rng.integers(1, 200, (120, 120, 90), dtype=np.int16))
    tiny_model(tmp_path / "tiny.safetensors", prior=PriorSpec())
    finished = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), *map(str, SIZES)],
        capture_output=True,
        text=True,
        check=True,
    )
    ends = dict(line.split() for line in finished.stdout.splitlines())
    assert set(ends) == {str(size) for size in SIZES}
    assert set(ends.values()) <= {"0", "2"}
    assert ends["2"] == "2"
    assert "memory" in finished.stderr
    assert "Traceback" not in finished.stderr
    # What was written is whole: a folder without a recipe may hold results, but no part of one.
    for folder in tmp_path.iterdir():
        if folder.is_dir():
            assert not [
                path for path in folder.iterdir() if path.suffix not in (".gz", ".json", ".csv")
            ]


def with_numpy() -> None:
    np.empty(1 << 60, np.uint8)


def with_torch() -> None:
    torch.empty(1 << 60)


def otherwise() -> None:
    raise RuntimeError("a mistake in the program")


@pytest.mark.parametrize("allocate", [with_numpy, with_torch])
def test_what_no_check_foresaw_is_a_message(allocate, capsys) -> None:
    app.command(allocate, name="exhaust")
    try:
        assert main(["exhaust"]) == 2
    finally:
        del app["exhaust"]
    assert "There is not enough memory to go on" in capsys.readouterr().err


def test_mistakes_of_the_program_keep_their_traceback() -> None:
    app.command(otherwise, name="mistake")
    try:
        with pytest.raises(RuntimeError, match="a mistake in the program"):
            main(["mistake"])
    finally:
        del app["mistake"]
