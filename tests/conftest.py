from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# Read when torch and napari are first imported, which is after this file.
# Tiny tensors gain nothing from a thread pool, and a sum keeps its order on every machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No settings file: the user's own neither changes the tests nor is changed by them.
os.environ["NAPARI_CONFIG"] = ""
# A widget that outlives its test is an error.
os.environ.setdefault("NAPARI_STRICT_QT", "1")

settings.register_profile("structseg", deadline=None, max_examples=50)
settings.register_profile(
    "structseg-ci", settings.get_profile("structseg"), derandomize=True, database=None
)
settings.load_profile("structseg-ci" if os.environ.get("CI") else "structseg")


@pytest.fixture(autouse=True)
def sessions_folder(tmp_path, monkeypatch) -> Path:
    """Where corrections are kept: not where the user's own are."""
    folder = tmp_path / "sessions"
    monkeypatch.setenv("STRUCTSEG_SESSIONS", str(folder))
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of development data; the test is skipped where there is none."""
    folder = Path(os.environ.get("STRUCTSEG_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data in {folder}; name its folder in STRUCTSEG_DATA")
    return folder
