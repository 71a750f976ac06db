"""The toy problem of Stochastic Segmentation Networks: does the covariance matter?

A line of 21 binary pixels has two equally likely segmentations, which differ in the 7 pixels in
the middle. There is no image: the parameters of the distribution over logits are optimised
themselves. A distribution with independent pixels can at best give each of them probability
1/2; one with a covariance can learn that they change together. Monteiro et al., NeurIPS 2020.

    python experiments/toy/run.py            # all seeds: results.json, the table, the figures
    python experiments/toy/run.py --plot     # the table and the figures from results.json

Needs matplotlib beside the package. Background logits are held at 0, so that a softmax over two
classes is the sigmoid of the paper.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shlex
import statistics
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from napari_structseg.io.atomic import atomic_path
from napari_structseg.models import LogitParameters
from napari_structseg.training.objectives.losses import sample_logits, ssn_loss

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RESULTS = HERE / "results.json"
PAGE = REPOSITORY / "docs" / "experiments-toy.md"
FIGURES = REPOSITORY / "docs" / "figures"
PUBLISHED = {"diagonal": -4.87, "low-rank": -0.93}
TABLE_MARKS = ("<!-- table: experiments/toy/run.py -->", "<!-- end of table -->")
N_SHOWN = 24

logger = logging.getLogger("toy")


@dataclass(frozen=True)
class Config:
    """See config.toml."""

    pixels: int
    ambiguous: int
    rank: int
    initial_log_diagonal: float
    initial_log_scale: float
    mean_only_steps: int
    steps: int
    learning_rate: float
    training_samples: int
    evaluation_samples: int
    seeds: tuple[int, ...]


class Toy(torch.nn.Module):
    """The parameters of one distribution over the logits of the foreground.

    As in the published code, the factor is the product of positive scales, one for each pixel and
    rank, and of directions, one unit vector over the pixels for each rank.
    """

    def __init__(self, config: Config, *, low_rank: bool, generator: torch.Generator) -> None:
        super().__init__()
        n, rank = config.pixels, config.rank if low_rank else 0
        self.mean = torch.nn.Parameter(torch.zeros(n))
        self.log_diagonal = torch.nn.Parameter(torch.full((n,), config.initial_log_diagonal))
        self.log_scale = torch.nn.Parameter(torch.full((rank, n), config.initial_log_scale))
        self.direction = torch.nn.Parameter(torch.rand((rank, n), generator=generator) - 0.5)

    def factor(self) -> Tensor:
        """P, rank-major, (rank, pixels)."""
        direction = self.direction / self.direction.norm(dim=1, keepdim=True)
        return torch.exp(self.log_scale) * direction

    def forward(self, n_images: int) -> LogitParameters:
        """The same distribution for each of `n_images` images; background first, at 0."""
        mean, diagonal, factor = self.mean, torch.exp(self.log_diagonal), self.factor()
        mean = torch.stack([torch.zeros_like(mean), mean])
        diagonal = torch.stack([torch.zeros_like(diagonal), diagonal])
        factor = torch.stack([torch.zeros_like(factor), factor], dim=1)
        return LogitParameters(
            mean.expand(n_images, -1, -1),
            factor.expand(n_images, -1, -1, -1) if len(factor) else None,
            diagonal.expand(n_images, -1, -1),
        )

    def covariance(self) -> Tensor:
        """P P^T + D of the foreground logits, (pixels, pixels)."""
        factor = self.factor()
        return torch.diag(torch.exp(self.log_diagonal)) + factor.T @ factor


def targets(config: Config) -> Tensor:
    """The two segmentations, (2, pixels): the same to the left and right, opposite between."""
    start = (config.pixels - config.ambiguous) // 2
    result = torch.zeros((2, config.pixels), dtype=torch.long)
    result[:, :start] = 1
    result[1, start : start + config.ambiguous] = 1
    return result


def train(config: Config, *, low_rank: bool, seed: int) -> Toy:
    """Maximise the likelihood, first over the mean alone, then over everything."""
    generator = torch.Generator().manual_seed(seed)
    toy = Toy(config, low_rank=low_rank, generator=generator)
    wanted = targets(config)
    for parameters, n_steps in (
        ([toy.mean], config.mean_only_steps),
        (toy.parameters(), config.steps),
    ):
        optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
        for _ in range(n_steps):
            loss = ssn_loss(
                toy(len(wanted)), wanted, n_samples=config.training_samples, generator=generator
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return toy


def main() -> int:
    """Run the experiment, or only plot it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", action="store_true", help="use results.json as it is")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_default_dtype(torch.float64)
    if not arguments.plot:
        run()
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    write_table(results)
    draw(results)
    return 0


def run() -> None:
    """Train and evaluate every kind and seed; write results.json."""
    with (HERE / "config.toml").open("rb") as file:
        raw = tomllib.load(file)
    config = Config(**{**raw, "seeds": tuple(raw["seeds"])})
    wanted = targets(config)
    runs = []
    for kind in PUBLISHED:
        for seed in config.seeds:
            started = time.perf_counter()
            toy = train(config, low_rank=kind == "low-rank", seed=seed)
            seconds = time.perf_counter() - started
            generator = torch.Generator().manual_seed(10_000 + seed)
            with torch.inference_mode():
                parameters = toy(len(wanted))
                likelihood = -ssn_loss(
                    parameters, wanted, n_samples=config.evaluation_samples, generator=generator
                ).item()
                shown = sample_logits(toy(1), N_SHOWN, generator=generator)[:, 0].argmax(dim=1)
                covariance = toy.covariance()
            runs.append(
                {
                    "kind": kind,
                    "seed": seed,
                    "log_likelihood": likelihood,
                    "seconds": round(seconds, 1),
                }
            )
            if seed == config.seeds[0]:
                # A row to a line, for the figures.
                runs[-1] |= {
                    "covariance": [" ".join(f"{v:.3f}" for v in row) for row in covariance],
                    "samples": ["".join(str(v) for v in row) for row in shown.tolist()],
                }
            logger.info("%s, seed %d: %.3f nats, %.0f s", kind, seed, likelihood, seconds)
    results = {
        "command": shlex.join(["python", "experiments/toy/run.py"]),
        "machine": f"{os.cpu_count()} CPU cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "config": asdict(config),
        "targets": ["".join(str(v) for v in row) for row in wanted.tolist()],
        "runs": runs,
    }
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write_table(results: dict) -> None:
    """Replace the table in the page of the documentation."""
    n_ambiguous = results["config"]["ambiguous"]
    best = {"diagonal": n_ambiguous * math.log(0.5), "low-rank": math.log(0.5)}
    lines = [
        "| Covariance | Ours, mean (lowest to highest) | Published | Best possible |",
        "|---|---|---|---|",
    ]
    for kind, published in PUBLISHED.items():
        values = [run["log_likelihood"] for run in results["runs"] if run["kind"] == kind]
        lines.append(
            f"| {kind} | **{statistics.mean(values):.2f}** ({min(values):.2f} to "
            f"{max(values):.2f}) | {published:.2f} | {best[kind]:.2f} |"
        )
    seeds = ", ".join(map(str, results["config"]["seeds"]))
    lines += [
        "",
        f"Log-likelihood in nats, {results['config']['evaluation_samples']} samples, seeds "
        f"{seeds}. `{results['command']}`, {results['threads']} thread on a machine with "
        f"{results['machine']}, torch {results['torch']}.",
    ]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(TABLE_MARKS[0])
    _, _, after = rest.partition(TABLE_MARKS[1])
    table = "\n".join([TABLE_MARKS[0], *lines, TABLE_MARKS[1]])
    with atomic_path(PAGE) as temporary:
        temporary.write_text(before + table + after, encoding="utf-8")


def draw(results: dict) -> None:
    """Targets, covariances and samples of the first seed."""
    first = {kind: next(r for r in results["runs"] if r["kind"] == kind) for kind in PUBLISHED}
    mpl.rcParams.update({"font.size": 9, "savefig.dpi": 150, "savefig.bbox": "tight"})
    FIGURES.mkdir(exist_ok=True)

    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3), layout="constrained")
    covariances = {
        kind: torch.tensor([[float(v) for v in row.split()] for row in run["covariance"]])
        for kind, run in first.items()
    }
    limit = max(float(c.abs().max()) for c in covariances.values())
    for axis, (kind, covariance) in zip(axes, covariances.items(), strict=True):
        limits = {"vmin": -limit, "vmax": limit}
        shown = axis.imshow(covariance, cmap="RdBu_r", norm=mpl.colors.SymLogNorm(1.0, **limits))
        axis.set(title=kind, xlabel="pixel")
    axes[0].set_ylabel("pixel")
    figure.colorbar(shown, ax=axes, label="covariance of logits")
    save(figure, FIGURES / "toy-covariance.png")

    panels = {"targets": results["targets"], **{k: r["samples"] for k, r in first.items()}}
    figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.6), layout="constrained")
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        pixels = [[int(v) for v in row] for row in rows]
        axis.imshow(pixels, cmap="gray_r", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        axis.set(title=title if title == "targets" else f"samples, {title}", xlabel="pixel")
        axis.set_yticks([])
    save(figure, FIGURES / "toy-samples.png")


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure without the date and the version that would change at every run."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
