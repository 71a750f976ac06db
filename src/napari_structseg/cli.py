"""The `structseg` command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from napari_structseg.commands.bench import bench
from napari_structseg.commands.calibrate import calibrate
from napari_structseg.commands.demo import demo
from napari_structseg.commands.evaluate import evaluate
from napari_structseg.commands.finetune import finetune
from napari_structseg.commands.import_ import import_
from napari_structseg.commands.info import info
from napari_structseg.commands.predict import predict
from napari_structseg.commands.sessions import sessions
from napari_structseg.commands.train import train
from napari_structseg.commands.versions import versions
from napari_structseg.errors import ControlsError, StructSegError
from napari_structseg.interrupts import Terminated
from napari_structseg.memory import is_out_of_memory

EXIT_ERROR = 2
# As shells report a program that SIGINT or SIGTERM ended.
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143

_OUT_OF_MEMORY = (
    "There is not enough memory to go on. Close other programs, take a smaller image or fewer "
    "samples, or use a machine with more memory. Files that were written are whole."
)
# Controls whose option has another name.
_OPTIONS = {"nudges": "nudge", "update_rule": "update"}

app = App(
    name="structseg",
    help="Explore the uncertainty of medical image segmentation.",
    version=lambda: version("napari-structseg"),
    suppress_keyboard_interrupt=False,
)
# The modules of the commands import what is heavy, torch above all, inside their functions.
app.command(bench)
app.command(calibrate)
app.command(demo)
app.command(evaluate)
app.command(finetune)
app.command(import_, name="import")
app.command(info)
app.command(predict)
app.command(sessions)
app.command(train)
app.command(versions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        What stands behind ``structseg`` on the command line; None: this process's own.

    Returns
    -------
    exit_code
        0 if all went well, or what the command returned; 2 for whatever the user can put right,
        with one message and no traceback; 130 after Ctrl-C, 143 after SIGTERM.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        result = app(
            None if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        return _end(f"error: {error}\nstructseg --help lists what there is.", EXIT_ERROR)
    except StructSegError as error:
        words = error.worded(_option_of) if isinstance(error, ControlsError) else f"{error}"
        return _end(f"error: {words}", EXIT_ERROR)
    except Terminated as stop:
        return _end(f"{stop}" or "Stopped.", EXIT_TERMINATED)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _end(f"error: {_OUT_OF_MEMORY}", EXIT_ERROR)
    except KeyboardInterrupt as interrupt:
        return _end(f"{interrupt}" or "Stopped.", EXIT_INTERRUPTED)
    return result if isinstance(result, int) else 0


def _option_of(field: str) -> str:
    """The option that sets a control."""
    return f"--{_OPTIONS.get(field, field).replace('_', '-')}"


def _end(message: str, exit_code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
