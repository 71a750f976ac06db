"""What is done where a step does not fit into memory: smaller patches, then fewer of them."""

from __future__ import annotations

from napari_structseg.errors import ConfigError
from napari_structseg.training.config import TrainConfig, check_patch

_SMALLEST_VOXELS = 8


def shrunk(config: TrainConfig) -> TrainConfig | None:
    """The same with half the patch along its longest axis; at the smallest, half the batch.

    Returns
    -------
    TrainConfig or None
        None: nothing is left to make smaller.
    """
    longest = max(config.patch)
    axis = config.patch.index(longest)
    stride = 1 << (len(config.backbone.widths) - 1)
    half = -(-longest // 2 // stride) * stride
    if max(_SMALLEST_VOXELS, stride) <= half < longest:
        patch = tuple(half if k == axis else n for k, n in enumerate(config.patch))
        smaller = config.model_copy(
            update={
                "patch": patch,
                # Its last two sizes may now differ.
                "augmentation": config.augmentation.model_copy(update={"quarter_turns": False}),
            }
        )
        try:
            check_patch(smaller)
        except ConfigError:
            pass
        else:
            return smaller
    if config.batch > 1:
        return config.model_copy(update={"batch": config.batch // 2})
    return None
