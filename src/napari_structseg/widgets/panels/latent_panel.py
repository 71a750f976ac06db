"""The latent space of a Probabilistic U-Net: a pad, and which of its directions it shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_structseg.controls import MEAN
from napari_structseg.distributions import Noise
from napari_structseg.session.state import ExplorerState
from napari_structseg.widgets.binding import bind, quiet
from napari_structseg.widgets.parts.fields import CalmCombo
from napari_structseg.widgets.parts.section import Note, SmallButton
from napari_structseg.widgets.plots.latent_pad import LatentPad, Vector

_TIP = (
    "Each point is a segmentation: drag to move through the latent space, click a dot for its "
    "sample, double-click for the mean."
)
# Of all changes of probabilities: what is less is written as 0 %, and changes nothing to be seen.
_LEAST_SHARE = 0.005
_ONE = "One direction of the latent space changes the segmentation; the others change nothing."
_AXIS_TIP = (
    "Direction of the latent space, the one that changes the segmentation most first, with its "
    "share of the change."
)


class LatentPanel(QWidget):
    """A pad with a choice of its two axes.

    The pad shows where the picture is from: a sample, or a position that was chosen.

    Parameters
    ----------
    state
        Whose chosen sample or position it shows and sets.
    """

    def __init__(self, state: ExplorerState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._directions: Vector = np.zeros((0, 0))
        self._n_latents = 0
        self._n_offered = 0
        self._follows_temperature = False
        self.pad = LatentPad()
        self.pad.setToolTip(_TIP)
        self.pad.moved.connect(self._on_moved)
        self.pad.sample_chosen.connect(self._choose)
        self.across_box, self.up_box = CalmCombo(), CalmCombo()
        self.where = Note()
        self.mean_button = SmallButton("Mean", "Go to the mean of the prior.")
        self.mean_button.clicked.connect(self._on_mean)
        words = QVBoxLayout()
        words.setContentsMargins(0, 0, 0, 0)
        words.setSpacing(4)
        for name, box in (("Across", self.across_box), ("Up", self.up_box)):
            label = QLabel(name)
            label.setIndent(0)
            label.setToolTip(_AXIS_TIP)
            box.setToolTip(_AXIS_TIP)
            box.setAccessibleName(f"Direction {name.lower()}")
            words.addWidget(label)
            words.addWidget(box)
        self.up_label = label
        self.line_note = Note(_ONE)
        self.line_note.hide()
        words.addWidget(self.line_note)
        self.across_box.currentIndexChanged.connect(self._on_across)
        self.up_box.currentIndexChanged.connect(self._on_up)
        words.addWidget(self.where)
        words.addStretch(1)
        # Aligned, or the column would not be wider than the button.
        words.addWidget(self.mean_button, alignment=Qt.AlignmentFlag.AlignLeft)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        row.addWidget(self.pad)
        row.addLayout(words, 1)
        for part, field, show in (
            (state.controls, "chosen", self._show_chosen),
            (state.controls, "seed", self._show_samples),
            (state.display, "n_thumbnails", self._show_samples),
            (state.display, "latent_axes", self._show_axes),
        ):
            bind(self, part, field, show)

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space; 0: there is none."""
        return self._n_latents

    def set_model(self, n_latents: int) -> None:
        """Take a latent space."""
        self._n_latents = n_latents
        # Most models have no latent space, and a slider that moves waits for nothing it can spare.
        if n_latents and not self._follows_temperature:
            self._follows_temperature = True
            bind(self, self._state.controls, "temperature", self._show_temperature)
        self._show_temperature(self._state.controls.temperature)
        self._directions = np.eye(n_latents)
        self.pad.set_axes(np.zeros((2, n_latents)))
        self._show_samples()
        self._n_offered = n_latents
        self._offer([f"Latent {number}" for number in range(1, n_latents + 1)])

    def show_space(
        self, directions: npt.NDArray[np.floating], strength: npt.NDArray[np.floating]
    ) -> None:
        """Offer directions.

        Parameters
        ----------
        directions
            Orthogonal unit vectors in standard deviations of the prior, ``(L, L)``.
        strength
            Root mean square change of a probability along each, descending, ``(L,)``.
        """
        self._directions = directions.astype(np.float64)
        shares = strength.astype(np.float64) ** 2
        shares /= max(float(shares.sum()), np.finfo(float).tiny)
        # The first is always there; the others where they change something.
        self._n_offered = max(1, int(np.sum(shares >= _LEAST_SHARE)))
        shares = shares[: self._n_offered]
        self._offer(
            [f"Direction {n} · {100 * share:.0f} %" for n, share in enumerate(shares, start=1)]
        )

    def _show_temperature(self, temperature: float) -> None:
        if self._n_latents:
            self.pad.set_temperature(temperature)
            self._say()

    def _show_samples(self, _changed: object = None) -> None:
        """Show the first samples, and where the picture is from."""
        seed, n_samples = self._state.controls.seed, self._state.display.n_thumbnails
        n_samples = n_samples if self._n_latents else 0
        self.pad.show_samples({n: self._of_sample(seed, n) for n in range(1, n_samples + 1)})
        self._show_chosen()

    def _show_chosen(self, _chosen: object = None) -> None:
        """Show where the picture is from."""
        controls = self._state.controls
        if len(controls.latent) == self._n_latents > 0:
            self.pad.show_position(np.array(controls.latent), None)
        else:
            position = self._of_sample(controls.seed, controls.sample)
            self.pad.show_position(position, controls.sample)
        self._say()

    def _of_sample(self, seed: int, sample: int) -> Vector:
        if sample == MEAN or not self._n_latents:
            return np.zeros(self._n_latents)
        return np.array(Noise(seed, sample).factors(self._n_latents).tolist())

    def _offer(self, names: list[str]) -> None:
        """Put directions into the boxes; those at the places that were chosen stay chosen."""
        for box in (self.across_box, self.up_box):
            with quiet(box):
                box.clear()
                box.addItems(names)
                box.setEnabled(len(names) > 1)
        self._show_axes()

    def _show_axes(self, _axes: object = None) -> None:
        last = max(self._n_offered - 1, 0)
        across, up = (min(axis, last) for axis in self._state.display.latent_axes)
        with quiet(self.across_box, self.up_box):
            self.across_box.setCurrentIndex(across)
            self.up_box.setCurrentIndex(up)
        axes = np.zeros((2, self._n_latents))
        if self._n_latents:
            axes[0] = self._directions[across]
        is_line = self._n_offered == 1
        if self._n_offered > 1:
            axes[1] = self._directions[up if up != across else 1 - min(across, 1)]
        for widget in (self.up_label, self.up_box):
            widget.setVisible(not is_line)
        self.line_note.setVisible(is_line and self._n_latents > 1)
        self.pad.set_axes(axes)
        self._say()

    def _on_across(self, index: int) -> None:
        across, up = self._state.display.latent_axes
        # A direction that is chosen for both axes changes places with the one before.
        self._state.display.latent_axes = (index, across if index == up else up)

    def _on_up(self, index: int) -> None:
        across, up = self._state.display.latent_axes
        self._state.display.latent_axes = (up if index == across else across, index)

    def _on_moved(self) -> None:
        self._state.controls.latent = tuple(self.pad.position.tolist())

    def _choose(self, sample: int) -> None:
        self._state.controls.sample = sample

    def _on_mean(self) -> None:
        self._choose(MEAN)

    def _say(self) -> None:
        across, up = self.pad.coordinates
        text = f"At {across:+.2f} σ" if self.pad.is_line else f"At {across:+.2f} σ, {up:+.2f} σ"
        text = text.replace("-", "−")
        if self.pad.beside >= 0.005 and not self.pad.is_line:
            text += f", {self.pad.beside:.2f} σ beside this plane"
        self.where.setText(text)
