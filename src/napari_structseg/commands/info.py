"""`structseg info`: what a model is, and where it comes from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from napari_structseg.models import ModelSpec


def info(
    model: str, *, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> None:
    """Describe a model, after checking that it can be used.

    Parameters
    ----------
    model
        Name of a model that comes with the program, a .safetensors file, or the .toml file beside a
        program of one's own.
    as_json
        Print JSON, for other programs.
    """
    from napari_structseg.io.model_files import find_model
    from napari_structseg.io.weights import load_weights, weights_hash

    path = find_model(model)
    network, spec = load_weights(path)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    n_prior = 0
    if network.prior is not None:
        n_prior = sum(parameter.numel() for parameter in network.prior.parameters())
    sha256 = weights_hash(path)
    if as_json:
        described: dict[str, Any] = {
            "file": str(path),
            "sha256": sha256,
            "parameters": n_parameters,
            "prior_parameters": n_prior,
            **spec.model_dump(mode="json"),
        }
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
        return
    _print(path, spec, n_parameters, n_prior, sha256)


def _print(path: Path, spec: ModelSpec, n_parameters: int, n_prior: int, sha256: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    classes = Text()
    for label, described in enumerate(spec.classes):
        classes.append(f"{label} ")
        classes.append("■ ", style=described.color)
        classes.append(f"{described.name} ({described.color})\n")
    classes.rstrip()
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("Name", Text(spec.name, style="bold"))
    rows: dict[str, str | Text] = {
        "Description": spec.description,
        "Classes": classes,
        "Dimensions": f"{spec.dimensions}-D, patch {_sizes(spec.patch)} voxels",
        "Channels": ", ".join(spec.channels),
        "Voxel size": f"{_sizes(spec.spacing)} mm" if spec.spacing else "any",
        "Intensity": _intensity(spec),
        "Architecture": _architecture(spec),
        "Prior": _prior(spec, n_prior),
        "CRF": _crf(spec),
        "Calibration": _calibration(spec),
        "Made for": _domain(spec),
        "Precision": "bfloat16 or float32" if spec.bfloat16 else "float32",
        "Parameters": f"{n_parameters:,}",
        "Trained on": spec.training.data,
        "Training": _training(spec),
        "Licence": spec.training.licence,
        "File": str(path),
        "SHA-256": sha256,
    }
    for field, value in rows.items():
        table.add_row(field, value if isinstance(value, Text) else Text(value or "not recorded"))
    Console(highlight=False).print(table)


def _sizes(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _intensity(spec: ModelSpec) -> str:
    intensity = spec.intensity
    if intensity.kind == "zscore":
        return "voxels that are not 0 to mean 0 and variance 1"
    if intensity.kind == "window":
        text = f"{intensity.low:g} to {intensity.high:g} {intensity.unit}".rstrip()
        if intensity.hounsfield is not None:
            low, high = intensity.hounsfield
            text += f", or {low:g} to {high:g} HU,"
        if intensity.eight_bit is not None:
            text += " (of 8-bit pictures by the peaks of lung and soft tissue)"
        return f"{text} becomes 0 to 1"
    return (
        f"percentiles {intensity.low:g} and {intensity.high:g} of voxels that are not 0 become 0 "
        "and 1"
    )


def _architecture(spec: ModelSpec) -> str:
    program = spec.program
    if program is not None:
        title = {"torchscript": "TorchScript", "export": "torch.export"}[program.kind]
        tiles = f"tiles of {_sizes(spec.patch)} that overlap by {program.overlap:.0%}"
        own = ", learned here around it" if program.head_is_own else ""
        return (
            f"{title} program of {program.n_bytes / 1e6:.1f} MB ({tiles}; axes {program.axes}, "
            f"{program.orientation}), {spec.head.title}{own}"
        )
    widths = ", ".join(map(str, spec.backbone.widths))
    norm: str = spec.backbone.norm
    if spec.head.kind == "hierarchical":
        norm = spec.backbone.norm_for_averages
    title = {"none": "no norm", "weight": "standardised weights"}.get(norm, f"{norm} norm")
    return f"U-Net (widths {widths}; {title}), {spec.head.title}"


def _prior(spec: ModelSpec, n_parameters: int) -> str:
    if spec.prior is None:
        return "none"
    title, iterations = spec.prior.title, spec.prior.iterations
    return f"{title}; {iterations} iterations of mean field; {n_parameters:,} parameters"


def _crf(spec: ModelSpec) -> str:
    crf = spec.crf
    if crf is None:
        return "none"
    return (
        f"weights {crf.unary:.4g} (model), {crf.smooth:.4g} (smoothness), {crf.contrast:.4g} "
        f"(contrast), scale {crf.scale:g}"
    )


def _calibration(spec: ModelSpec) -> str:
    found = spec.calibration
    if found is None:
        tuned = spec.training.recipe.get("finetuned")
        lost = tuned.get("dropped") if isinstance(tuned, dict) else None
        if lost:
            return f"none: fine-tuning dropped {' and '.join(lost)}; structseg calibrate makes them"
        return "none"
    scales = ", ".join(
        f"{name} {scale:.2f}"
        for name, scale in zip(spec.class_names, found.class_scale, strict=True)
    )
    before, after = found.before.get(found.score), found.after.get(found.score)
    gain = "" if before is None or after is None else f" ({found.score} {before:g} to {after:g})"
    return (
        f"temperature {found.temperature:.2f}; class scales: {scales}; on {found.cases} cases of "
        f"{found.data or 'unnamed data'}{gain}"
    )


def _domain(spec: ModelSpec) -> str:
    if spec.domain is None:
        return ""
    return (
        f"images like {spec.domain.cases} cases of {spec.domain.data or 'unnamed data'}, by "
        f"{len(spec.domain.statistics)} statistics"
    )


def _training(spec: ModelSpec) -> str:
    record = spec.training
    seed = f", seed {record.recipe['seed']}" if "seed" in record.recipe else ""
    software = f", {record.software}" if record.software else ""
    return f"{record.steps} steps{seed}{software}"
