"""How often brain-tissue says that it was not made for an image: false alarms and misses.

    python experiments/brain_tissue/domain.py --data DATA --model MODEL.safetensors \\
        --out experiments/brain_tissue/domain.json --write CHECKED.safetensors

DATA holds ``ibsr18``, ``ixi10_2mm_dlmuse`` and ``brats2015``; the MNI152 template comes with
nilearn. The ranges are made of the scans of IBSR, and with ``--serves-skulls`` of those of IXI with
their skulls, as ``structseg calibrate`` makes them. Each of these scans is judged by the ranges of
the others, and every other image by those of all.
Statistics that are in OUT already are not computed again, so that an interrupted run goes on.
``--write`` puts the ranges of all these scans into a copy of the model. T2, PD and CT of heads
are not among the data: T1 with its intensities inverted stands for the contrast of a T2, and is
no T2.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

from domain_cases import FITTED, WITH_SKULL, shown_images

from napari_structseg.calibration.domain import fit_domain
from napari_structseg.calibration.run import write_spec
from napari_structseg.errors import StructSegError
from napari_structseg.io.atomic import atomic_path
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.models import DomainSpec, ModelSpec
from napari_structseg.prediction.domain import compare
from napari_structseg.prediction.domain_statistics import Key, statistics_of
from napari_structseg.prediction.predictor import Predictor

Row = dict[str, object]


def measure(options: argparse.Namespace, known: list[Row]) -> list[Row]:
    """The statistics of every image, written as they come."""
    network, spec = load_weights(options.model)
    sha256 = weights_hash(options.model)
    predictor = Predictor(network, spec)
    rows = [row for row in known if row["model"] == sha256]
    done = {(row["group"], row["name"]) for row in rows}
    images = shown_images(options.data, options.limit, serves_skulls=options.serves_skulls)
    for shown in images:
        if (shown.group, shown.name) in done:
            continue
        began = time.perf_counter()
        image = shown.image()
        row: Row = {"model": sha256, "group": shown.group, "name": shown.name}
        try:
            found = statistics_of(spec, image, predictor.predict(image))
            row["statistics"] = [[*key, value] for key, value in found.items()]
        except StructSegError as error:
            # It cannot be segmented at all, which is said as well.
            row["refused"] = str(error)
        rows.append({**row, "serves": shown.serves})
        rows[-1]["seconds"] = round(time.perf_counter() - began, 1)
        write(options.out, {"rows": rows})
    return rows


def judged(rows: list[Row], spec: ModelSpec) -> list[Row]:
    """Of every image what is outside of the ranges."""
    fitted = [row for row in rows if is_fitted(row)]
    results = []
    for row in rows:
        others = [statistics(one) for one in fitted if one is not row]
        domain = fit_domain(others, data_of(rows))
        if domain is None:
            raise SystemExit("Too few scans: give a larger --limit.")
        outside = (row["refused"],) if "refused" in row else _outside(spec, row, domain)
        results.append({"group": row["group"], "name": row["name"], "serves": row["serves"]})
        results[-1]["outside"] = list(outside)
    return results


def is_fitted(row: Row) -> bool:
    """Whether the ranges are made of a scan."""
    group = row["group"]
    return "statistics" in row and (group in FITTED or (group == WITH_SKULL and row["serves"]))


def data_of(rows: list[Row]) -> str:
    """What the ranges are made of, in words."""
    of_skulls = any(is_fitted(row) and row["group"] == WITH_SKULL for row in rows)
    return "IBSR, and IXI with skulls" if of_skulls else "IBSR"


def statistics(row: Row) -> dict[Key, float]:
    """As they were computed."""
    return {(name, of): value for name, of, value in row["statistics"]}


def _outside(spec: ModelSpec, row: Row, domain: DomainSpec) -> tuple[str, ...]:
    return compare(spec.model_copy(update={"domain": domain}), statistics(row)).texts


def table(results: list[Row]) -> str:
    """Alarms by group, as a Markdown table."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in results:
        groups[row["group"]].append(row)
    lines = ["| Images | serves them | said to be outside | first reason |", "|---|---|---|---|"]
    for group, members in groups.items():
        alarms = [row for row in members if row["outside"]]
        reason = alarms[0]["outside"][0] if alarms else ""
        serves = "yes" if members[0]["serves"] else "no"
        lines.append(f"| {group} | {serves} | {len(alarms)} of {len(members)} | {reason} |")
    return "\n".join(lines)


def write(path: Path, content: dict[str, object]) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, judge, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=100, help="images of each group")
    parser.add_argument("--serves-skulls", action="store_true", help="the card promises skulls")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="a copy of the model with the ranges")
    options = parser.parse_args()
    known = []
    if options.out.exists():
        known = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
    rows = measure(options, known)
    _, spec = load_weights(options.model)
    results = judged(rows, spec)
    write(options.out, {"rows": rows, "results": results, "table": table(results).splitlines()})
    if options.write:
        cases = [statistics(row) for row in rows if is_fitted(row)]
        written = spec.model_copy(update={"domain": fit_domain(cases, data_of(rows))})
        write_spec(options.model, options.write, written)


if __name__ == "__main__":
    main()
