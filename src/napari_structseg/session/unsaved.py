"""Which labelling is work that would be lost: one that was chosen by hand and is in no file."""

from __future__ import annotations

from collections.abc import Hashable

from napari_structseg.session.messages import Request
from napari_structseg.session.resolve import of_labels


class Unsaved:
    """Whether the labelling that is chosen of one result is unsaved work.

    What a run shows by itself is none: another run gives it again. A labelling is work once the
    user has moved anything that it depends on (sample, latent position, a slider, the MRF) since
    the run, until it is saved. Going back to what the run has shown, or to what was saved, leaves
    nothing unsaved.

    Examples
    --------
    >>> from napari_structseg.controls import Controls
    >>> from napari_structseg.session.messages import View
    >>> mean, sample = (Request(Controls(sample=number), View()) for number in (0, 3))
    >>> unsaved = Unsaved()
    >>> unsaved.note_first(mean, None)
    >>> unsaved.holds(mean, None), unsaved.holds(sample, None)
    (False, True)
    >>> unsaved.note_saved(sample, None)
    >>> unsaved.holds(sample, None)
    False
    """

    def __init__(self) -> None:
        self._safe: set[Hashable] = set()

    def note_first(self, request: Request, prior_model: str | None) -> None:
        """Take what is shown first, after a run, as no work; only the first call counts."""
        if not self._safe:
            self.note_saved(request, prior_model)

    def note_saved(self, request: Request, prior_model: str | None) -> None:
        """Remember that a file holds the labels of a request.

        Parameters
        ----------
        request
            What was saved.
        prior_model
            The other model whose MRF refined the labels; None: the model's own, or none.
        """
        self._safe.add((of_labels(request), prior_model))

    def holds(self, request: Request, prior_model: str | None) -> bool:
        """Whether the labels of a request are unsaved work."""
        return bool(self._safe) and (of_labels(request), prior_model) not in self._safe
