"""The labels of a distribution under controls: of itself, or refined where they ask for it."""

from __future__ import annotations

from napari_structseg.controls import MEAN, Controls
from napari_structseg.distributions import LogitDistribution, Noise, Region, Strokes
from napari_structseg.errors import ConfigError
from napari_structseg.image import Image
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.graph_cut.labels import CutLabels
from napari_structseg.refine.refinement import Refinement
from napari_structseg.render import rendering
from napari_structseg.render.rendering import LabelArray


def render_labels(
    distribution: LogitDistribution,
    noise: Noise | None,
    controls: Controls,
    region: Region | None = None,
    *,
    prior: MarkovPrior | None = None,
    image: Image | None = None,
    strokes: Strokes | None = None,
) -> LabelArray:
    """The segmentation that the dock shows and the command line writes for these controls.

    Parameters
    ----------
    distribution
        p(eta | x).
    noise
        Which sample; None: the mean.
    controls
        Temperature and class scales, and those of the MRF. The sample is that of `noise`.
    region
        Slices of the spatial axes; None: everything. With iterations of mean field the whole
        image is computed all the same: what a voxel becomes depends on those around it.
    prior
        The MRF that refines; None: that of the model that gave the distribution.
    image
        What was segmented, on the grid of the distribution: a CRF needs it, and nothing else does.
    strokes
        Voxels that a CRF leaves as they are given; None: none are.

    Returns
    -------
    ndarray
        ``(*region)``, uint8.

    Raises
    ------
    ConfigError
        If the controls ask for iterations and there is no MRF, or one for other classes; for the
        cut of a CRF, and there is no image.
    InputError
        If mean field leaves the finite numbers.

    Examples
    --------
    >>> import torch
    >>> from napari_structseg import PointLogits, make_controls
    >>> distribution = PointLogits(torch.tensor([[[0.0, 2.0]], [[1.0, 0.0]]]))
    >>> render_labels(distribution, None, make_controls(("background", "object")))
    array([[1, 0]], dtype=uint8)
    """
    if not controls.is_coupled:
        return rendering.render_labels(distribution, noise, controls, region)
    chosen: dict[str, object] = {"sample": MEAN, "latent": ()}
    if noise is not None:
        chosen = {"seed": noise.seed, "sample": noise.sample, "latent": noise.position}
    controls = controls.model_copy(update=chosen)
    if controls.cuts:
        if image is None:
            raise ConfigError(
                "The controls ask for the graph cut of a CRF, which sees the edges of the image. "
                'Give the image with image=, or set coupling to "mrf" or "none".'
            )
        labels = CutLabels(distribution, image, strokes).render_volume(controls)
        return labels if region is None else labels[region]
    if prior is None:
        carried = getattr(distribution, "refined_by", None)
        prior = carried if isinstance(carried, MarkovPrior) else None
    if prior is None:
        raise ConfigError(
            f"The controls ask for {controls.iterations} iterations of mean field, but this "
            "distribution came with no MRF. Give one with prior=, for example "
            "prior_for(network, image), or set iterations to 0."
        )
    labels = Refinement(distribution, prior).render_volume(controls)
    return labels if region is None else labels[region]
