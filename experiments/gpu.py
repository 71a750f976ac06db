"""What a GPU is needed for, one after the other, in pieces that survive a cut.

    python experiments/gpu.py --data DATA --work WORK --minutes 9

Each call goes on where the last one stopped, and stops in time: a training is asked to stop
(SIGTERM) and keeps its checkpoint. Checkpoints, results of benchmarks and logs are in WORK, with
``done.json``, which says what has been finished and how long it took; results of experiments are
where their own scripts put them. DATA is the folder of the data sets, see the scripts. The
table of the benchmarks on ``docs/performance.md`` is renewed when they are there.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_structseg.io.atomic import atomic_path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- table: experiments/gpu.py -->", "<!-- end of table -->"
# A training writes its checkpoint when it is asked to stop; after so many seconds it is killed.
_GRACE = 45
# Less time is not worth starting anything.
_LEAST = 20
# The other benchmarks compute on the CPU whatever there is: their figures would be none of a GPU.
BENCHMARKS = ("predict",)

logger = logging.getLogger("gpu")


@dataclass(frozen=True, slots=True)
class Task:
    """A command that can be stopped and given again.

    Attributes
    ----------
    name
        Of the task.
    command
        Of the program, after its interpreter.
    checkpoint
        Where it exists, the command goes on with ``--resume``.
    """

    name: str
    command: tuple[str, ...]
    checkpoint: Path | None = None

    def arguments(self) -> list[str]:
        """The whole command line."""
        resume = self.checkpoint is not None and self.checkpoint.exists()
        return [sys.executable, *self.command, *(["--resume"] if resume else [])]


def tasks(data: Path, work: Path, device: str) -> list[Task]:
    """The queue, the most wanted first."""
    structseg = ("-m", "napari_structseg.cli")
    maps = str(data / "synthseg_label_maps")
    queue = []
    start: tuple[str, ...] = ()
    for part in ("mean", "likelihood"):
        folder = work / f"brain-tissue-{part}"
        config = str(HERE / "brain_tissue" / f"gpu-{part}.toml")
        command = (*structseg, "train", maps, "--config", config, "--out", str(folder))
        queue.append(
            Task(
                f"brain-tissue, {part}",
                (*command, *start, "--device", device, "--workers", "8"),
                folder / "checkpoint.safetensors",
            )
        )
        start = ("--start", str(folder / "model.safetensors"))
    for name, options in (
        ("lidc", ("--half", "all", "--work", str(work / "lidc"))),
        ("mrf_unet", ("--work", str(work / "mrf_unet"))),
        ("switching", ("--work", str(work / "switching"))),
    ):
        data_option = () if name == "switching" else ("--data", str(data))
        script = str(HERE / name / "run.py")
        command = (script, *data_option, "--config", "full", "--device", device, *options)
        queue.append(Task(f"{name}, full", command))
    tests = ("-m", "pytest", "-q", "-m", "gpu", str(HERE.parent / "tests"))
    queue.append(Task("tests marked gpu", tests))
    for name in BENCHMARKS:
        out = ("--json", str(_benchmark(work, name)))
        command = (*structseg, "bench", name, *out, "--device", device)
        queue.append(Task(f"bench {name}", command))
    return queue


def _benchmark(work: Path, name: str) -> Path:
    return work / f"bench-{name}.json"


def run(queue: list[Task], work: Path, deadline: float, grace: float = _GRACE) -> bool:
    """Do what is missing until the deadline.

    Parameters
    ----------
    queue
        All tasks.
    work
        Folder for logs and the record.
    deadline
        Of ``time.monotonic()``.
    grace
        Seconds before the deadline at which a task is asked to stop.

    Returns
    -------
    bool
        Whether everything is done.
    """
    record = work / "done.json"
    done: dict[str, dict[str, object]] = {}
    if record.exists():
        done = json.loads(record.read_text(encoding="utf-8"))
    for task in queue:
        entry = done.setdefault(task.name, {"status": "waiting", "seconds": 0.0})
        if entry["status"] in ("done", "failed"):
            continue
        left = deadline - time.monotonic() - grace
        if left < min(_LEAST, grace):
            break
        started = time.monotonic()
        entry["status"] = _run_one(task, work, left, grace)
        entry["seconds"] = round(float(str(entry["seconds"])) + time.monotonic() - started, 1)
        entry["device"] = _device_name()
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
        logger.info("%s: %s, %s s", task.name, entry["status"], entry["seconds"])
    return all(done.get(task.name, {}).get("status") == "done" for task in queue)


def _run_one(task: Task, work: Path, seconds: float, grace: float) -> str:
    """Run a task; its output is appended to a log of its own."""
    log = work / (task.name.replace(", ", "-").replace(" ", "-") + ".log")
    logger.info("%s: up to %.0f s", task.name, seconds)
    with log.open("ab") as output:
        process = subprocess.Popen(task.arguments(), stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return "stopped"
    return "done" if code == 0 else "failed"


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()


def write_table(work: Path) -> None:
    """Put every figure of the benchmarks that have been run into the page."""
    lines = ["| Benchmark | Figure | Value |", "|---|---|---|"]
    for name in BENCHMARKS:
        path = _benchmark(work, name)
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            lines += [f"| {name} | {key} | {value} |" for key, value in _figures(found)]
    if len(lines) == 2:
        return
    text = PAGE.read_text(encoding="utf-8")
    if BEGIN not in text:
        text += f"\n## On a GPU\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    source = f"{_device_name()}, torch {torch.__version__}; `python experiments/gpu.py`."
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{source}\n{END}{after}", encoding="utf-8")


def _figures(found: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Numbers of nested objects, with the names on the way to them."""
    figures: list[tuple[str, object]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            figures += _figures(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            figures.append((f"{prefix}{key}", round(value, 4)))
    return figures


def main() -> int:
    """Do as much as there is time for; 0 when everything is done, 3 when some is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; give another --device to try the queue without one")
    options.work.mkdir(parents=True, exist_ok=True)
    queue = tasks(options.data, options.work, options.device)
    complete = run(queue, options.work, time.monotonic() + 60 * options.minutes)
    if options.device.startswith("cuda"):
        write_table(options.work)
    return 0 if complete else 3


if __name__ == "__main__":
    sys.exit(main())
