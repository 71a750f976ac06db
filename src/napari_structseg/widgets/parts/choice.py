"""A row of buttons of which one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QSizePolicy, QWidget

Option = TypeVar("Option", bound=str)


class Choice(QWidget):
    """Options side by side; the first is chosen to begin with.

    Parameters
    ----------
    options
        Name and tip of each.
    """

    chosen = Signal(str)

    def __init__(
        self, options: Mapping[Option, tuple[str, str]], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.buttons: dict[str, QPushButton] = {}
        self._group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for option, (name, tip) in options.items():
            button = QPushButton(name)
            button.setCheckable(True)
            button.setToolTip(tip)
            button.setSizePolicy(QSizePolicy.Policy.MinimumExpanding, QSizePolicy.Policy.Fixed)
            self._group.addButton(button)
            row.addWidget(button, 1)
            self.buttons[option] = button
        self._default = next(iter(options))
        self.buttons[self._default].setChecked(True)
        self._group.buttonToggled.connect(self._on_toggle)

    @property
    def value(self) -> str:
        """The option chosen."""
        return next(option for option, button in self.buttons.items() if button.isChecked())

    @property
    def is_default(self) -> bool:
        """Whether the first option is chosen."""
        return self.value == self._default

    def choose(self, option: str) -> None:
        """Choose another option."""
        self.buttons[option].setChecked(True)

    def reset(self) -> None:
        """Choose the first option."""
        self.choose(self._default)

    def _on_toggle(self, _button: QPushButton, is_chosen: bool) -> None:
        # One button goes up as another goes down.
        if is_chosen:
            self.chosen.emit(self.value)
