"""Colours for the classes of a model that nobody gave colours."""

from __future__ import annotations

import colorsys

# Black for the background, then the colours of Okabe and Ito (2008), which colour-blind people
# can tell apart.
_PALETTE = ("#000000", "#56b4e9", "#e69f00", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_GOLDEN_RATIO = 0.618034


def palette(n_classes: int) -> tuple[str, ...]:
    """Colours for classes, as #rrggbb: black for the background, then ones easy to tell apart."""
    colors = list(_PALETTE[:n_classes])
    for index in range(len(colors), n_classes):
        rgb = colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1, 0.6, 0.9)
        colors.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return tuple(colors)
