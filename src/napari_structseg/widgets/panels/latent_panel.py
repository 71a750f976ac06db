"""The latent space of a Probabilistic U-Net: a pad, and which of its directions it shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_structseg.controls import MEAN, Controls
from napari_structseg.distributions import Noise
from napari_structseg.widgets.parts.fields import CalmCombo
from napari_structseg.widgets.parts.section import Note, SmallButton
from napari_structseg.widgets.plots.latent_pad import LatentPad, Vector

_TIP = (
    "Each point is a segmentation: drag to move through the latent space, click a dot for its "
    "sample, double-click for the mean."
)
_AXIS_TIP = (
    "Direction of the latent space, the one that changes the segmentation most first, with its "
    "share of the change."
)


class LatentPanel(QWidget):
    """A pad with a choice of its two axes.

    The pad shows where the picture is from: a sample, or a position that was chosen.
    """

    moved = Signal()
    sample_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._directions: Vector = np.zeros((0, 0))
        self._chosen: Vector | None = None
        self._n_latents = 0
        self._shown = (0, 0)
        self._samples_of: tuple[int, int] | None = None
        self.pad = LatentPad()
        self.pad.setToolTip(_TIP)
        self.pad.moved.connect(self._on_moved)
        self.pad.sample_chosen.connect(self.sample_chosen.emit)
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

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space; 0: there is none."""
        return self._n_latents

    @property
    def position(self) -> tuple[float, ...]:
        """The position that was chosen; empty: none, a sample is shown."""
        return () if self._chosen is None else tuple(self._chosen.tolist())

    def set_model(self, n_latents: int) -> None:
        """Take a latent space, and forget the position in another."""
        self._n_latents = n_latents
        self._chosen = None
        self._directions = np.eye(n_latents)
        self.pad.show_position(np.zeros(n_latents), MEAN)
        self._samples_of = None
        self.pad.show_samples({})
        self._shown = (0, min(1, n_latents - 1))
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
        self._offer(
            [f"Direction {n} · {100 * share:.0f} %" for n, share in enumerate(shares, start=1)]
        )

    def show_controls(self, controls: Controls, n_samples: int) -> None:
        """Show the prior, the first samples, and where the picture is from."""
        if not self._n_latents:
            return
        self.pad.set_temperature(controls.temperature)
        if self._samples_of != (controls.seed, n_samples):
            self._samples_of = (controls.seed, n_samples)
            numbers = range(1, n_samples + 1)
            self.pad.show_samples({n: self._of_sample(controls.seed, n) for n in numbers})
        if self._chosen is not None:
            self.pad.show_position(self._chosen, None)
        else:
            position = self._of_sample(controls.seed, controls.sample)
            self.pad.show_position(position, controls.sample)
        self._say()

    def let_go(self) -> None:
        """Forget the position that was chosen: a sample is shown."""
        self._chosen = None

    def _of_sample(self, seed: int, sample: int) -> Vector:
        if sample == MEAN:
            return np.zeros(self._n_latents)
        return np.array(Noise(seed, sample).factors(self._n_latents).tolist())

    def _offer(self, names: list[str]) -> None:
        """Put directions into the boxes; those at the places that were chosen stay chosen."""
        for box, index in zip((self.across_box, self.up_box), self._shown, strict=True):
            blocked = box.blockSignals(True)
            box.clear()
            box.addItems(names)
            box.setCurrentIndex(index)
            box.setEnabled(len(names) > 1)
            box.blockSignals(blocked)
        self._show_axes()

    def _show_axes(self) -> None:
        axes = np.zeros((2, self._n_latents))
        if self._n_latents:
            axes[0] = self._directions[self.across_box.currentIndex()]
        if self._n_latents > 1:
            axes[1] = self._directions[self.up_box.currentIndex()]
        self.pad.set_axes(axes)
        self._shown = (self.across_box.currentIndex(), self.up_box.currentIndex())
        self._say()

    def _on_across(self, index: int) -> None:
        self._keep_apart(index, self.up_box, self._shown[0])

    def _on_up(self, index: int) -> None:
        self._keep_apart(index, self.across_box, self._shown[1])

    def _keep_apart(self, index: int, other: CalmCombo, before: int) -> None:
        """A direction that is chosen for both axes changes places with the one before."""
        if other.currentIndex() == index:
            blocked = other.blockSignals(True)
            other.setCurrentIndex(before)
            other.blockSignals(blocked)
        self._show_axes()

    def _on_moved(self) -> None:
        self._chosen = self.pad.position
        self._say()
        self.moved.emit()

    def _on_mean(self) -> None:
        self.sample_chosen.emit(MEAN)

    def _say(self) -> None:
        across, up = self.pad.coordinates
        text = f"At {across:+.2f} σ, {up:+.2f} σ".replace("-", "−")
        if self.pad.beside >= 0.005:
            text += f", {self.pad.beside:.2f} σ beside this plane"
        self.where.setText(text)
