"""What can go wrong because of what came in, said so that a person can act on it."""

from __future__ import annotations


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


class MemoryLimitError(StructSegError):
    """The work asked for needs more memory than there is; nothing was allocated."""


class Cancelled(StructSegError):  # noqa: N818 -- nothing went wrong
    """The user stopped a run. Control flow rather than a failure: nothing is wrong."""
