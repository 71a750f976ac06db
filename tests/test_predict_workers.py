"""Many images in several processes: the same files, also when processes are killed meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_structseg.errors import ConfigError
from napari_structseg.many.cases import Case
from napari_structseg.many.run import of_case, predict_many
from napari_structseg.many.work import Order, work_on
from napari_structseg.results.request import make_request
from napari_structseg.workers.cluster import Ended, local_workers, spread
from napari_structseg.workers.crew import Crew
from napari_structseg.workers.number import number_that_fits
from nifti_files import save
from predict_helpers import blob, model, run, voxels  # noqa: F401
from test_predict_many import SHAPE, contents, images, table  # noqa: F401

dask = pytest.importorskip("dask", reason="the extra [cohort] is not installed")
distributed = pytest.importorskip("distributed", reason="the extra [cohort] is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """One that somebody else has started."""
    # A call whose process is ended is given up at once.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
        ) as cluster,
    ):
        yield cluster


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe with a name")
def test_killed_workers_lose_nothing_and_do_nothing_twice(
    images: Path, model: Path, tmp_path: Path, capsys
) -> None:
    (images / "a.nii.gz").write_bytes(b"no image")
    save(images / "d.nii.gz", blob(*SHAPE, seed=3))
    serial, out = tmp_path / "serial", tmp_path / "workers"
    options = ("--model", model, "--samples", 2)
    assert run(images, *options, "--out", serial, "--workers", 1) == 1
    # Case b waits for its earlier recipe, until somebody writes it: the process is in its middle.
    (out / "b").mkdir(parents=True)
    (out / "b" / "mean.nii.gz").write_bytes(b"half")
    pipe = out / "b" / "recipe.json"
    os.mkfifo(pipe)
    killed = []

    def kill() -> None:
        with pipe.open("wb"):
            pipe.unlink()
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert run(images, *options, "--out", out, "--workers", 2, "--skip-existing") == 1
    killer.join()
    assert len(killed) == 2
    assert "3 predicted, 0 skipped, 1 failed" in capsys.readouterr().err
    assert contents(out) == contents(serial)
    assert [row["case"] for row in table(out / "volumes.csv")] == ["b"] * 4 + ["c"] * 4 + ["d"] * 4
    assert not multiprocessing.active_children()


def test_workers_of_a_scheduler(cluster, images: Path, model: Path, tmp_path: Path) -> None:
    serial, out = tmp_path / "serial", tmp_path / "workers"
    predict_many(images, model, serial, samples=1, workers=1)
    finished = predict_many(images, model, out, samples=1, scheduler=cluster.scheduler_address)
    assert finished.count("done") == 3
    assert contents(out) == contents(serial)


def kill_myself(_item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_kills_every_worker_is_given_up(cluster) -> None:
    with distributed.Client(cluster) as client:
        ((item, answer),) = spread(client, kill_myself, [7])
    assert item == 7
    assert isinstance(answer, Ended)
    assert "1 process" in answer.reason


def test_two_runs_go_on_beside_each_other() -> None:
    # A warning that dask's port is taken is an error here.
    with local_workers(1) as first, local_workers(1) as second:
        assert first.submit(abs, -1).result() == second.submit(abs, -1).result() == 1


def test_work_asked_for_twice_gives_the_same(images: Path, model: Path, tmp_path: Path) -> None:
    request = make_request(images=images, model=model, out=tmp_path / "out", samples=1)
    case = Case("b", (images / "b.nii.gz",))
    order = Order("b", of_case(request.model_copy(update={"overwrite": True}), case), False)
    assert work_on(order).status == "done"
    first = contents(tmp_path / "out")
    assert work_on(order).status == "done"
    assert contents(tmp_path / "out") == first


def test_as_many_workers_as_memory_allows() -> None:
    gb = 10**9
    assert number_that_fits(2 * gb, 10 * gb, most=16) == 4
    assert number_that_fits(2 * gb, 100 * gb, most=16) == 16
    assert number_that_fits(2 * gb, gb, most=16) == 1
    assert number_that_fits(2 * gb, None, most=16) == 1


def test_workers_that_there_are_not(images: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--workers must be 1 or more"):
        Crew(0)
    with pytest.raises(ConfigError, match="Either --workers or --scheduler"):
        Crew(2, "tcp://127.0.0.1:8786")
    with pytest.raises(ConfigError, match=r"no file .*none\.json of a scheduler"):
        predict_many(images, model, tmp_path / "out", scheduler=str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match=r"No scheduler .* answers"):
        predict_many(images, model, tmp_path / "out", scheduler="no such protocol://x")
