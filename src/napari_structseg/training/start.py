"""Starting a training run from a trained model."""

from __future__ import annotations

from napari_structseg.errors import ConfigError
from napari_structseg.io.weights import find_model, load_weights, weights_hash
from napari_structseg.models import ModelSpec, SegmentationNetwork

_ARCHITECTURE = ("dimensions", "channels", "class_names", "backbone", "head")


def start_from(model: str, spec: ModelSpec) -> tuple[SegmentationNetwork, ModelSpec]:
    """Load the network to start from, and write down where it came from.

    Parameters
    ----------
    model
        Name of a shipped model, or a file.
    spec
        Of the model to be trained.

    Returns
    -------
    network
        On the CPU.
    spec
        ``spec`` with the hash of the weights in its training record.

    Raises
    ------
    ConfigError
        If the architectures differ, naming how.
    WeightsError
        If the file cannot be used.
    """
    path = find_model(model)
    network, theirs = load_weights(path)
    for name in _ARCHITECTURE:
        ours, found = getattr(spec, name), getattr(theirs, name)
        if ours != found:
            raise ConfigError(
                f"Training cannot start from {path.name}: its {name} is {found!s}, but the "
                f"configuration and data say {ours!s}. Change the configuration, or start without "
                "these weights."
            )
    record = spec.training.model_copy(update={"initial": weights_hash(path)})
    return network, spec.model_copy(update={"training": record})
