"""What stays chosen from one result to the next: sliders of the same model, and a chosen prior."""

from __future__ import annotations

from napari_structseg.controls import Controls, coupling_of
from napari_structseg.distributions import Spread
from napari_structseg.prediction.other_prior import OtherPrior, WantedPrior
from napari_structseg.prediction.specs import Spec, are_alike
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.refine.changes import Changes
from napari_structseg.session.messages import Show
from napari_structseg.session.state import ExplorerState, Mean
from napari_structseg.widgets.exploration import Exploration

# They compare samples, and say nothing where there is but one.
_NEED_SAMPLES = (Show.OUTLINES, Show.CONTOURS, Show.AGREEMENT)


class CarriedOver:
    """Remembers what was shown last, and carries over to the next what fits it.

    Parameters
    ----------
    state
        What the user has chosen.
    """

    def __init__(self, state: ExplorerState) -> None:
        self._state = state
        # Of what was shown last: as it is shown, and as its run gave it.
        self._spec: Spec | None = None
        self._given: Spec | None = None
        self._prior_model: str | None = None

    @property
    def wanted_prior(self) -> WantedPrior | None:
        """The MRF of another model that is chosen, and what for; None: there is none."""
        model = self._state.source.prior
        return None if model is None else WantedPrior(model, self._given)

    def carry_over(
        self,
        exploration: Exploration,
        read: OtherPrior | Exception | None,
        before: Exploration | None,
    ) -> str | None:
        """Refine with the MRF that is chosen, where it was chosen for the same model or maps.

        Parameters
        ----------
        exploration
            What is to be shown next.
        read
            What came of reading the MRF that its run was to read, or None.
        before
            What is shown now.

        Returns
        -------
        model
            The model whose MRF is chosen, but still has to be read; None: there is none.

        Raises
        ------
        StructSegError, MemoryError, RuntimeError
            If the MRF cannot be used. The exploration keeps its own.
        """
        given, wanted, run = self._given, self._state.source.prior, exploration.run
        if given is not None and not are_alike(exploration.given, given):
            return None
        if self._spec is not None:
            exploration.take_names(self._spec.classes)
        if wanted is None:
            return None
        if before is not None and before.run is run and before.prior_model == wanted:
            # It was chosen while the run went on.
            read = before.other_prior
        elif run is None or run.wanted_prior is None or run.wanted_prior.model != wanted:
            return wanted
        if read is None:
            return wanted
        if isinstance(read, Exception):
            raise read
        exploration.take_prior(read)
        return None

    def fit_state(self, exploration: Exploration, *, is_continued: bool) -> None:
        """Make the state fit what is shown from now on.

        Parameters
        ----------
        exploration
            It.
        is_continued
            Whether it is what was shown before, grown.
        """
        spec, controls, display = exploration.spec, self._state.controls, self._state.display
        is_new = self._spec is None or not are_alike(spec, self._spec)
        self._spec, self._given = spec, exploration.given
        if is_new:
            start = spec.calibrated or Spread.neutral(spec.n_classes)
            controls.take(
                Controls(
                    seed=controls.seed,
                    temperature=start.temperature,
                    class_scale=start.class_scale,
                    coupling=coupling_of(spec.crf),
                    crf=spec.crf or CRFSpec(),
                )
            )
            display.latent_axes = (0, 1)
            display.hidden_classes, display.class_opacity = frozenset(), ()
        if is_new or exploration.prior_model != self._prior_model:
            defaults = Controls(iterations=exploration.iterations or 0)
            fields = ("iterations", "mrf_strength", "damping", "update_rule", "nudges")
            controls.update({field: getattr(defaults, field) for field in fields})
            display.stop_when_converged = False
        self._prior_model = exploration.prior_model
        self._state.source.prior = exploration.prior_model
        if not is_continued and controls.latent:
            controls.chosen = Mean()
        if exploration.iterations is None:
            display.changes = Changes.NONE
        if not exploration.is_stochastic:
            controls.chosen = Mean()
            if display.show in _NEED_SAMPLES:
                display.show = Show.LABELS
