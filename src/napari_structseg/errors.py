"""What can go wrong because of what came in, said so that a person can act on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class StructSegError(Exception):
    """Something the user can put right.

    The message is shown as it is, in the dock and in the terminal. It says what was expected,
    what came instead, and what to do about it. Mistakes in the program itself are never raised
    as this class: they keep their own types and their tracebacks.
    """


class InputError(StructSegError):
    """An image, a label map or a folder cannot be used, or an output cannot be written."""


class WeightsError(StructSegError):
    """A model file cannot be used, or does not fit the image or the architecture."""


class ConfigError(StructSegError):
    """A configuration file, a dataset description or an option is not valid."""


class ControlsError(ConfigError):
    """Controls are out of range. A terminal calls them by the names of its options.

    Parameters
    ----------
    problems
        The field of each, what of it, and what is wrong.
    """

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.worded(lambda field: field))

    def worded(self, name: Callable[[str], str]) -> str:
        """The message, with other names for the fields."""
        lines = [f"{name(field)}{of}: {what}" for field, of, what in self.problems]
        return f"Invalid controls. {'; '.join(lines)}."


class MemoryLimitError(StructSegError):
    """The work asked for needs more memory than there is; nothing was allocated.

    Parameters
    ----------
    message
        What needs how much.
    missing_bytes
        What it needs beyond what is free; None: that is not known.
    """

    def __init__(self, message: str, missing_bytes: int | None = None) -> None:
        self.missing_bytes = missing_bytes
        super().__init__(message)


class Diverged(StructSegError):  # noqa: N818 -- as in "training diverged"
    """Training came to numbers that are not finite. The weights are those before these steps."""


class Cancelled(StructSegError):  # noqa: N818 -- nothing went wrong
    """The user stopped a run. Control flow rather than a failure: nothing is wrong."""
