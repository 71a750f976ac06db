"""Words for what is seen of samples that an MRF refines, or is to refine."""

from __future__ import annotations

from napari_structseg.session.messages import RefinedProgress, Request
from napari_structseg.session.resolve import of_samples


def alone_in_words(
    request: Request | None, progress: RefinedProgress | None, *, is_refined: bool
) -> str:
    """Say that something is of the model alone, and when it will not be; empty: it is not.

    Parameters
    ----------
    request
        What is asked for; None: nothing is.
    progress
        What was told last of samples that the MRF refines; None: nothing was.
    is_refined
        Whether the MRF refined the samples that are seen.
    """
    if request is None or is_refined or not request.controls.is_coupled:
        return ""
    if progress is None or of_samples(progress.request) != of_samples(request):
        return "model alone"
    return f"model alone; {progress_in_words(progress)}"


def progress_in_words(progress: RefinedProgress) -> str:
    """How far the samples are that the MRF refines."""
    if progress.reason:
        return f"none with neighbours: {progress.reason}"
    return f"with neighbours: {progress.done} of {progress.total}"
