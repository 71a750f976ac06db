"""`structseg import`: a program of the user's becomes a model."""

from __future__ import annotations

from pathlib import Path


def import_(program: Path, *, settings: Path | None = None, out: Path | None = None) -> None:
    """Make a model of a TorchScript or torch.export program, after running it once on zeros.

    What is not said of it is listed as the lines to add. The program runs when it is imported and
    whenever the model is used, so take it from where you would take any program: it can compute
    for long and take memory, but it runs no Python, and code that names files is refused.

    Parameters
    ----------
    program
        A TorchScript archive (.pt), a torch.export archive (.pt2), or a MONAI bundle: its folder or
        zip file, whose metadata say what the settings do not.
    settings
        The TOML file that says how it is used; unless given, the one of the same name beside it.
    out
        The model's file, *.safetensors: program and settings in one, used like any other model.
        Unless given, nothing is written.
    """
    from rich.console import Console

    from napari_structseg.errors import ConfigError
    from napari_structseg.imports.monai import is_bundle, read_bundle
    from napari_structseg.imports.programs import check_content, check_program
    from napari_structseg.models.programs.settings import read_settings_table

    file = program.with_suffix(".toml") if settings is None else settings
    if settings is not None and not file.is_file():
        raise ConfigError(f"There is no settings file {file}.")
    table = read_settings_table(file) if file.is_file() else {}
    console = Console(highlight=False, soft_wrap=True)
    bundled = is_bundle(program)
    if bundled:
        bundle = read_bundle(program)
        for name in sorted(bundle.table.keys() - table.keys()):
            console.print(f"From the bundle: {name} = {bundle.table[name]!r}", markup=False)
        found = check_content(bundle.program, bundle.name, {**bundle.table, **table})
    else:
        found = check_program(program, table)
    console.print(f"It returned {found.returned}", markup=False)
    console.print(f"{found.spec.name}: {', '.join(found.spec.class_names)}", markup=False)
    for warning in found.warnings:
        console.print(f"WARNING: {warning}", markup=False)
    if out is None and bundled:
        console.print("It can be used once it is one file: add --out NAME.safetensors")
        return
    if out is None:
        if "program" not in table:
            raise ConfigError(f'Add this line to {file}:\n  program = "{program.name}"')
        console.print(f"It can be used: --model {file}", markup=False)
        return
    found.save(out)
    console.print(f"Written: {out}", markup=False)
