"""A simulated user: looks for a large mistake, and dabs the right class into its middle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_structseg.distributions import Strokes


def next_dab(
    labels: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.uint8],
    said: Strokes,
    *,
    radius: float,
    reviewed: npt.NDArray[np.bool_] | None = None,
    chance: np.random.Generator | None = None,
) -> Strokes | None:
    """What the user would say next.

    The mistake is the largest connected group of voxels that should have one class and have
    another, or any of them, by chance; the dab covers what lies within the radius around its
    deepest point, in the slice along the first axis that shows most of it, and only what should
    have that class.

    Parameters
    ----------
    labels, truth
        As shown, and as the user would have them, ``(*spatial)``.
    said
        What was said before: nothing is said twice.
    radius
        Of the brush, in voxels.
    reviewed
        Voxels that the user looks at; None: all.
    chance
        Chooses the mistake, a larger one more often, in proportion to its size; None: the largest.

    Returns
    -------
    Strokes or None
        The dab alone; None: nothing is wrong, or all of it was said.
    """
    wrong = labels != truth
    if reviewed is not None:
        wrong &= reviewed
    wrong.reshape(-1)[said.voxels] = False
    mistakes: list[tuple[int, int]] = []
    sizes: list[int] = []
    for label in np.unique(truth[wrong]):
        groups, n_groups = ndimage.label(wrong & (truth == label))
        mistakes += [(int(label), number) for number in range(1, n_groups + 1)]
        sizes += np.bincount(groups.reshape(-1))[1:].tolist()
    if not mistakes:
        return None
    if chance is None:
        index = int(np.argmax(sizes))
    else:
        index = int(chance.choice(len(sizes), p=np.divide(sizes, sum(sizes))))
    label, number = mistakes[index]
    group = ndimage.label(wrong & (truth == label))[0] == number
    place = 0
    plane = group
    if group.ndim == 3:
        place = int(group.sum(axis=(1, 2)).argmax())
        plane = group[place]
    depth = ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1]
    middle = np.unravel_index(int(depth.argmax()), plane.shape)
    rows, columns = np.indices(plane.shape)
    dab = plane & (np.hypot(rows - middle[0], columns - middle[1]) <= radius)
    array = np.zeros(group.shape, np.uint16)
    (array[place] if group.ndim == 3 else array)[dab] = label + 1
    return Strokes.from_array(array, int(truth.max()) + 1)
