"""Where a run waits: while it is paused, and for a moment after a slider was moved."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

ASIDE_SECONDS = 0.4
"""How long a run steps aside after a slider was moved, unless it is told otherwise."""


class Gate:
    """Opened and closed by one thread, passed by another.

    A run passes before every layer of the network, forwards and backwards, and between the pieces
    of a validation. So it stops within a layer's time, some milliseconds, in the middle of a step,
    and computes the same numbers as without.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_paused = False
        self._aside_until = 0.0
        self._reason: str | None = None
        self._waited = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether :meth:`pause` holds the run."""
        return self._is_paused

    @property
    def cancelled(self) -> str | None:
        """Why the run is to end; None: it is not."""
        return self._reason

    @property
    def waited_seconds(self) -> float:
        """How long runs have waited here in all."""
        return self._waited

    def pause(self) -> None:
        """Hold whoever comes, until :meth:`resume`."""
        with self._changed:
            self._is_paused = True

    def resume(self) -> None:
        """Let go on."""
        with self._changed:
            self._is_paused = False
            self._changed.notify_all()

    def step_aside(self, seconds: float = ASIDE_SECONDS) -> None:
        """Hold whoever comes, for so many seconds from now."""
        with self._changed:
            self._aside_until = max(self._aside_until, time.monotonic() + seconds)

    def cancel(self, reason: str) -> None:
        """Let everybody through, so that the run ends after its step."""
        with self._changed:
            self._reason = self._reason or reason
            self._changed.notify_all()

    def wait(self) -> None:
        """Return when the way is free."""
        # The usual case, without a lock.
        if not self._is_paused and self._aside_until == 0:
            return
        started = time.monotonic()
        with self._changed:
            while self._reason is None:
                remaining = self._aside_until - time.monotonic()
                if not self._is_paused and remaining <= 0:
                    self._aside_until = 0.0
                    break
                self._changed.wait(None if self._is_paused else remaining)
            self._waited += time.monotonic() - started

    def asked(self) -> bool:
        """Wait, and say whether the run is to end."""
        self.wait()
        return self._reason is not None

    @contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """Wait before every layer of a network, as long as the context lasts.

        Parameters
        ----------
        network
            Whose gradients may be computed.
        """

        def before(*_: object) -> None:
            self.wait()

        def after(_module: nn.Module, _inputs: object, output: object) -> None:
            # The gradient of a layer's output comes before the layer's own way back.
            if isinstance(output, Tensor) and output.requires_grad:
                output.register_hook(self._on_gradient)

        with ExitStack() as hooks:
            for layer in network.modules():
                if not any(layer.children()):
                    hooks.callback(layer.register_forward_pre_hook(before).remove)
                    hooks.callback(layer.register_forward_hook(after).remove)
            yield

    def _on_gradient(self, _gradient: Tensor) -> None:
        self.wait()
