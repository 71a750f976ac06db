"""Starting a training run from a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from napari_structseg.errors import ConfigError
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights, weights_hash
from napari_structseg.models import LowRankSpec, ModelSpec, SegmentationNetwork
from napari_structseg.training.config import TrainConfig

_ARCHITECTURE = ("dimensions", "channels", "class_names", "backbone", "head")


def start_from(
    model: str, spec: ModelSpec, *, frozen: bool = False
) -> tuple[SegmentationNetwork, ModelSpec]:
    """Load the network to start from, and write down where it came from.

    It may lack the prior of the model to be trained, which then starts fresh, and what holds the
    spread of a low-rank head may differ.

    Parameters
    ----------
    model
        Name of a shipped model, or a file.
    spec
        Of the model to be trained.
    frozen
        Whether all but the prior stays as it is: then the network keeps the patch size that it
        was trained with, whatever the prior is trained on.

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
    head = spec.head
    if isinstance(head, LowRankSpec) and isinstance(theirs.head, LowRankSpec):
        # Weights have the same shape however the spread is held; what is frozen keeps what it has.
        held = {"bound": theirs.head.bound, "certain": theirs.head.certain}
        spec = spec.model_copy(update={"head": head.model_copy(update=held)})
    head = spec.head if frozen else head
    for name in _ARCHITECTURE:
        ours, found = getattr(spec, name), getattr(theirs, name)
        if ours != found:
            raise ConfigError(
                f"Training cannot start from {path.name}: its {name} is {found!s}, but the "
                f"configuration and data say {ours!s}. Change the configuration, or start without "
                "these weights."
            )
    if theirs.prior is not None and (spec.prior is None or spec.prior.kind != theirs.prior.kind):
        ours = "no prior" if spec.prior is None else f"a prior of kind {spec.prior.kind!r}"
        raise ConfigError(
            f"Training cannot start from {path.name}: it has a prior of kind "
            f"{theirs.prior.kind!r}, but the configuration asks for {ours}. Write [prior] with "
            f"kind = {theirs.prior.kind!r} into the configuration, or start from a model without "
            "a prior."
        )
    record = spec.training.model_copy(update={"initial": weights_hash(path)})
    patch, prior = theirs.patch if frozen else spec.patch, spec.prior
    # What was found for a network holds as long as it stays what it is.
    fitted = {"calibration": theirs.calibration, "domain": theirs.domain} if frozen else {}
    if prior is not None and theirs.prior is not None:
        prior = prior.fitting(theirs.prior)
    kept = {"head": head, "training": record, "patch": patch, "prior": prior, **fitted}
    return network, spec.model_copy(update=kept)


def adopt(network: SegmentationNetwork, initial: SegmentationNetwork) -> None:
    """Give a new network the weights of another, of the same architecture.

    Parameters
    ----------
    network
        Changed in place; it keeps its own prior where ``initial`` has none.
    initial
        Where the weights come from.
    """
    own = {}
    if network.prior is not None and initial.prior is None:
        own = {f"prior.{name}": tensor for name, tensor in network.prior.state_dict().items()}
    network.load_state_dict({**initial.state_dict(), **own})


def require_start(config: TrainConfig, *, given: bool) -> None:
    """Refuse to train only the prior, or a CRF, of a model that knows nothing.

    Parameters
    ----------
    config
        The configuration.
    given
        Whether there is a trained model to start from, or a run to resume.

    Raises
    ------
    ConfigError
        If there is none and the model is to be frozen, or what learns a CRF is not installed.
    """
    if config.max_margin is not None and find_spec("osqp") is None:
        raise ConfigError(
            "[max_margin] solves quadratic programs with OSQP, which is not installed. Install it: "
            "pip install 'napari-structseg[max-margin]'."
        )
    if config.max_margin is not None and not given:
        raise ConfigError(
            "[max_margin] learns on top of a trained network, but there is none. Train one with "
            "the same configuration without [max_margin], and name it with --start MODEL."
        )
    if config.model_frozen and not given:
        raise ConfigError(
            "prior.freeze_model = true trains only the prior, on top of a trained model, but "
            "there is none. Name it with --start MODEL, or remove freeze_model from the "
            "configuration."
        )


def check_two_classes(config: TrainConfig, class_names: Sequence[str]) -> None:
    """Refuse to learn a CRF of other than two classes.

    Raises
    ------
    ConfigError
        Naming the classes.
    """
    if config.max_margin is not None and len(class_names) != 2:
        raise ConfigError(
            "[max_margin] needs the exact minimum of a CRF, which there is for 2 classes, but "
            f"there are {len(class_names)}: {', '.join(class_names)}. Merge classes in the labels, "
            "or train with [prior]."
        )


def check_prior(config: TrainConfig, spec: ModelSpec) -> None:
    """Refuse a configuration and a specification that disagree about the prior.

    Raises
    ------
    ConfigError
        Naming both.
    """
    asked, given = config.prior_spec, spec.prior
    if asked is not None and given is not None:
        # The weights that training starts from say what shape it has.
        asked = asked.fitting(given)
    if asked != given:
        raise ConfigError(
            f"The configuration asks for the prior {config.prior_spec!s}, but the model to be "
            f"trained has {spec.prior!s}. Build the specification with prior=config.prior_spec."
        )
