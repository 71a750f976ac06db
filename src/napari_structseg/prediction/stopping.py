"""Stopping a network in the middle of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from napari_structseg.errors import Cancelled


@contextmanager
def stopping(network: nn.Module, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Ask before every layer whether to go on.

    A step takes some tenths of a second on a CPU, a layer less.

    Parameters
    ----------
    network
        What may be stopped, as long as the context lasts.
    cancelled
        Whether it is.

    Raises
    ------
    Cancelled
        From the network, if so.
    """

    def ask(*_: object) -> None:
        if cancelled():
            raise Cancelled("The run was cancelled.")

    layers = [module for module in network.modules() if not any(module.children())]
    hooks = [layer.register_forward_pre_hook(ask) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
