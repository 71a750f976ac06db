"""Disputed regions, the most disputed first: to jump to, and to mark as reviewed."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QHBoxLayout, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_structseg.models import ClassSpec
from napari_structseg.render.disputed import MAX_REGIONS, DisputedRegion
from napari_structseg.widgets.binding import follow, quiet
from napari_structseg.widgets.correcting.places import Places
from napari_structseg.widgets.parts.colors import display_name
from napari_structseg.widgets.parts.measure import Measure
from napari_structseg.widgets.parts.section import Caption, SmallButton

_ROWS = 5
_LOOKING = "Looking for regions where samples disagree…"
_NONE = "Samples hardly disagree anywhere."
_HEIGHT_TIP = (
    "Connected voxels of which samples disagree, ranked by how much of them is disputed: the sum "
    "over voxels of the share of samples that have another label than most."
)


class RegionList(QListWidget):
    """A list as high as some rows, however many there are."""

    def sizeHint(self) -> QSize:
        """Room for some rows."""
        row = self.fontMetrics().height() + 6
        return QSize(200, _ROWS * row + 2 * self.frameWidth())

    def minimumSizeHint(self) -> QSize:
        """The same height, and no width of its own."""
        return QSize(80, self.sizeHint().height())


class DisputedPanel(QWidget):
    """The list and its buttons.

    Parameters
    ----------
    places
        Knows the regions, and jumps to them.
    """

    def __init__(self, places: Places, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._places = places
        self._classes: tuple[ClassSpec, ...] = ()
        self._measure = Measure()
        self._listed: tuple[DisputedRegion, ...] | None = None
        self.caption = Caption(_LOOKING)
        self.caption.setToolTip(_HEIGHT_TIP)
        self.list = RegionList()
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        # What is too long is elided; all of it is in the tooltip.
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setMaximumHeight(self.list.sizeHint().height())
        self.list.itemClicked.connect(self._on_click)
        self.previous_button = SmallButton("Previous", "Jump to the one before it (Shift S)")
        self.next_button = SmallButton(
            "Next", "Jump to the next one that was not reviewed (Shift D)"
        )
        self.reviewed_button = SmallButton("Reviewed", "Mark it as reviewed, and go on (Shift X)")
        self.reviewed_button.setCheckable(True)
        self.here_button = SmallButton("What else?", "List what else this region could be.")
        self.previous_button.clicked.connect(lambda: places.step(-1))
        self.next_button.clicked.connect(lambda: places.step(1))
        self.reviewed_button.clicked.connect(self._on_reviewed)
        self.here_button.clicked.connect(self._on_here)
        row = QHBoxLayout()
        row.setSpacing(4)
        buttons = (self.previous_button, self.next_button, self.reviewed_button, self.here_button)
        for button in buttons:
            row.addWidget(button)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.caption)
        layout.addWidget(self.list)
        layout.addLayout(row)
        follow(self, places.changed, self.show_regions)
        self.show_regions()

    def set_classes(self, classes: Sequence[ClassSpec], measure: Measure) -> None:
        """Name classes, and write sizes, so from now on."""
        self._classes, self._measure = tuple(classes), measure
        self._listed = None
        self.show_regions()

    def show_regions(self) -> None:
        """List what is known, with the marks."""
        places = self._places
        regions = places.regions
        with quiet(self.list):
            if regions is not self._listed:
                self._listed = regions
                self.list.clear()
                for _ in regions:
                    self.list.addItem(QListWidgetItem())
            for index, region in enumerate(regions):
                item = self.list.item(index)
                if item is not None:
                    mark = "✓" if places.is_reviewed(region) else " "
                    item.setText(f"{mark} {index + 1}  {self._words(region)}")
                    item.setToolTip(self._words(region))
            chosen = -1 if places.chosen is None else places.chosen
            self.list.setCurrentRow(chosen)
        n_reviewed = sum(places.is_reviewed(one) for one in regions)
        if places.disputed is None:
            self.caption.setText(_LOOKING)
        elif regions:
            about = "" if places.disputed.exact else ", on a lattice"
            alone = places.alone_in_words(places.disputed)
            most = "most disputed " if len(regions) == MAX_REGIONS else ""
            what = f"{'The ' if most else ''}{len(regions)} {most}region{'s' * (len(regions) != 1)}"
            says = f"{what}{about}, {n_reviewed} reviewed"
            self.caption.setText(f"{says} · {alone}" if alone else says)
        else:
            self.caption.setText(_NONE)
        chosen_one = places.region
        self.reviewed_button.setEnabled(chosen_one is not None)
        self.here_button.setEnabled(chosen_one is not None)
        is_reviewed = chosen_one is not None and places.is_reviewed(chosen_one)
        self.reviewed_button.setChecked(is_reviewed)
        self.next_button.setEnabled(bool(regions))
        self.previous_button.setEnabled(bool(regions))

    def _words(self, region: DisputedRegion) -> str:
        names = " / ".join(
            display_name(self._classes[label])
            for label in region.classes[:3]
            if label < len(self._classes)
        )
        return f"{self._measure.write(region.disagreement_ml)}  {names}"

    def _on_click(self, item: QListWidgetItem) -> None:
        self._places.choose(self.list.row(item))

    def _on_reviewed(self, is_reviewed: bool) -> None:
        self._places.review(is_reviewed=is_reviewed)

    def _on_here(self) -> None:
        region = self._places.region
        if region is not None:
            self._places.ask_region(region)
