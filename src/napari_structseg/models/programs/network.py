"""A program of another origin as a network: shown what it expects, and what it returns read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from napari_structseg.errors import WeightsError
from napari_structseg.models.heads import SpreadHead
from napari_structseg.models.kinds import LowRankSpec
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.parameters import LogitParameters
from napari_structseg.models.program_spec import Key, ProgramSpec
from napari_structseg.models.programs.opening import open_program
from napari_structseg.models.spec import ModelSpec
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior

# What is less probable counts as this, or no sample could ever disagree.
_SMALLEST = 1e-6
# exp of more overflows in float32.
_LARGEST_LOG_DIAGONAL = 80.0
# Whatever a program meets. It is none of ours: what it raises is said, and not a fault of ours.
_FAILURES = (
    RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
)  # fmt: skip
_NAMES = {
    "mean": ("mean", "logits", "out", "pred"),
    "diagonal": ("diagonal", "cov_diag", "log_diagonal"),
    "factor": ("factor", "cov_factor"),
    "features": ("features",),
}


class ProgramNetwork(SegmentationNetwork):
    """Runs a program, which is one of its buffers, and so a part of its file.

    It is opened when it is first called, on the device that the buffer is on then. Its own weights
    never learn.

    Parameters
    ----------
    spec, program
        The model's, and what of it is about the program.
    prior
        A Markov random field over the labels, or None.
    """

    program: Tensor

    def __init__(
        self, spec: ModelSpec, program: ProgramSpec, prior: MarkovPrior | None = None
    ) -> None:
        backbone, head = _own_parts(spec, program)
        super().__init__(backbone, head, prior)
        self._spec, self._program = spec, program
        self.register_buffer("program", torch.zeros(program.n_bytes, dtype=torch.uint8))
        self._opened: tuple[torch.device, Callable[[Tensor], Any]] | None = None

    def forward(self, x: Tensor) -> LogitParameters:
        """Parameters of p(eta | x) for a batch ``(B, channels, *spatial)``, in RAS.

        With a head of our own, the mean is what the program returns, bit for bit, and factor and
        diagonal are made of its features; where it has none, of what a small U-Net makes of the
        image and the probabilities.
        """
        returned = self.run(x)
        parameters = self.read(returned)
        if not isinstance(self.head, SpreadHead):
            return parameters
        mean = parameters.mean
        features = self.features(returned)
        if features is None:
            features = self.backbone(torch.cat([x, mean.softmax(dim=1)], dim=1))
        return self.head.around(mean, features)

    def run(self, x: Tensor) -> Any:  # noqa: ANN401 -- whatever a program returns
        """What the program returns for a batch, as it returns it.

        Raises
        ------
        WeightsError
            If it cannot be opened, or fails.
        """
        program = self._open()
        low, high = self._program.span
        if (low, high) != (0.0, 1.0):
            x = low + x * (high - low)
        try:
            with torch.no_grad():
                return program(self._turned(x))
        except torch.OutOfMemoryError:
            raise
        except _FAILURES as error:
            shape = " x ".join(map(str, x.shape))
            raise WeightsError(
                f"The program of {self._spec.name!r} fails on an input of {shape} (batch, "
                f"channels, voxels): {_last_line(error)}. Check patch, sizes, divisor and axes in "
                "its settings."
            ) from error

    def read(self, returned: Any) -> LogitParameters:  # noqa: ANN401 -- whatever it returns
        """The parameters in what the program returned.

        Raises
        ------
        WeightsError
            If they are not there, or have other shapes than the specification says.
        """
        outputs, head = self._program.outputs, self._spec.head
        mean = self._maps(returned, "mean", outputs.mean, 0)
        if outputs.values == "probabilities":
            mean = _log_probabilities(mean)
        elif mean.shape[1] == 1 and self._spec.n_classes == 2:
            mean = _with_background(mean)
        if not head.is_stochastic or self._program.head_is_own:
            return LogitParameters(mean)
        diagonal = self._maps(returned, "diagonal", outputs.diagonal, 1)
        if outputs.diagonal_is == "log_variance":
            diagonal = diagonal.clamp(max=_LARGEST_LOG_DIAGONAL).exp()
        if bool((diagonal < 0).any()):
            raise self._unfit(
                "diagonal", "variances, which are not negative (or diagonal_is = 'log_variance')"
            )
        factor = self._factor(returned) if head.factor_rank else None
        if diagonal.shape[1] < mean.shape[1]:
            diagonal = _with_background(diagonal)
            factor = None if factor is None else _with_background(factor, axis=2)
        return LogitParameters(mean, factor, diagonal + head.least_variance)

    def features(self, returned: Any) -> Tensor | None:  # noqa: ANN401 -- whatever it returns
        """The features in what the program returned, ``(B, F, *spatial)``; None: it has none."""
        if not self._program.n_features:
            return None
        at = self._program.outputs.features
        found = _entry(returned, "features", at, 1)
        n = self._program.n_features
        if (
            not isinstance(found, Tensor)
            or found.ndim != 2 + self._spec.dimensions
            or found.shape[1] != n
        ):
            raise self._unfit("features", f"a tensor (batch, {n} features, voxels)", found)
        return self._back(found.float())

    def _open(self) -> Callable[[Tensor], Any]:
        device = self.program.device
        if self._opened is None or self._opened[0] != device:
            content = self.program.cpu().numpy().tobytes()
            opened = open_program(content, self._program.kind, self._spec.name, device)
            self._opened = device, opened
        return self._opened[1]

    def _turned(self, x: Tensor) -> Tensor:
        """From our axes to those of the program."""
        flips = self._program.flips(self._spec.dimensions)
        x = x.flip(flips) if flips else x
        return (x if self._program.axes == "zyx" else _reversed(x, 2)).contiguous()

    def _back(self, x: Tensor) -> Tensor:
        """From the axes of the program to ours; the spatial ones are the last."""
        flips, n_before = self._program.flips(self._spec.dimensions), x.ndim - self._spec.dimensions
        x = x if self._program.axes == "zyx" else _reversed(x, n_before)
        return x.flip(flips) if flips else x

    def _maps(self, returned: Any, what: str, key: Key | None, place: int) -> Tensor:  # noqa: ANN401
        found = _entry(returned, what, key, place)
        n = self._program.n_outputs
        if (
            not isinstance(found, Tensor)
            or found.ndim != 2 + self._spec.dimensions
            or found.shape[1] != n
        ):
            raise self._unfit(what, f"a tensor (batch, {n} channels, voxels)", found)
        return self._back(found.float())

    def _factor(self, returned: Any) -> Tensor:  # noqa: ANN401 -- whatever it returns
        outputs, rank, n = self._program.outputs, self._spec.head.factor_rank, self._n_outputs
        found = _entry(returned, "factor", outputs.factor, 2)
        by_rank = outputs.factor_order == "rank_class"
        sizes = (rank, n) if by_rank else (n, rank)
        if isinstance(found, Tensor) and found.ndim == 2 + self._spec.dimensions:
            # As a convolution gives it, both numbers in one axis.
            found = found.unflatten(1, sizes) if found.shape[1] == rank * n else found
        if (
            not isinstance(found, Tensor)
            or found.ndim != 3 + self._spec.dimensions
            or found.shape[1:3] != sizes
        ):
            raise self._unfit(
                "factor",
                f"a tensor (batch, {sizes[0]} x {sizes[1]} channels, voxels) of "
                f"{'ranks times classes' if by_rank else 'classes times ranks'}",
                found,
            )
        return self._back((found if by_rank else found.transpose(1, 2)).float())

    @property
    def _n_outputs(self) -> int:
        return self._program.n_outputs

    def _unfit(self, what: str, expected: str, found: object = None) -> WeightsError:
        came = f", but it returned {_described(found)}" if found is not None else ""
        return WeightsError(
            f"The program of {self._spec.name!r} has no {what} that fits: expected {expected}"
            f"{came}. Say in [outputs] of its settings which entry it is."
        )


def _own_parts(spec: ModelSpec, program: ProgramSpec) -> tuple[nn.Module, nn.Module]:
    """What is ours of the network: nothing, or what makes factor and diagonal."""
    head = spec.head
    if not program.head_is_own or not isinstance(head, LowRankSpec):
        return nn.Identity(), nn.Identity()
    backbone: nn.Module = nn.Identity()
    n_features = program.n_features
    if not n_features:
        backbone = UNet(spec.dimensions, len(spec.channels) + spec.n_classes, spec.backbone)
        n_features = spec.backbone.widths[0]
    own = SpreadHead(
        spec.dimensions,
        n_features,
        spec.n_classes,
        rank=head.factor_rank,
        epsilon=head.epsilon,
        bound=head.bound,
        certain=head.certain,
    )
    return backbone, own


def _entry(returned: Any, what: str, key: Key | None, place: int) -> object:  # noqa: ANN401
    """An entry of what a program returned; None: there is none."""
    if isinstance(returned, Tensor):
        return returned if what == "mean" and key in (None, 0) else None
    if isinstance(returned, Mapping):
        names = _NAMES[what] if key is None else (key,)
        return next((returned[name] for name in names if name in returned), None)
    if isinstance(returned, tuple | list):
        at = place if key is None else key
        return returned[at] if isinstance(at, int) and at < len(returned) else None
    return None


def described(returned: object) -> str:
    """What a program returned, in words."""
    return _described(returned)


def _described(found: object) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of {' x '.join(map(str, found.shape))}"
    if isinstance(found, Mapping):
        entries = [f"{name}: {_described(one)}" for name, one in found.items()]
        return f"a dict ({'; '.join(entries)})"
    if isinstance(found, tuple | list):
        return f"a tuple ({'; '.join(map(_described, found))})"
    return type(found).__name__


def _log_probabilities(mean: Tensor) -> Tensor:
    if mean.shape[1] == 1:
        mean = torch.cat([1 - mean, mean], dim=1)
    return mean.clamp(min=_SMALLEST).log()


def _with_background(maps: Tensor, axis: int = 1) -> Tensor:
    """Zeros before the only class: its sigmoid is the softmax of both."""
    return torch.cat([torch.zeros_like(maps), maps], dim=axis)


def _reversed(x: Tensor, n_before: int) -> Tensor:
    """With the axes after the first ones in the opposite order."""
    return x.permute(*range(n_before), *reversed(range(n_before, x.ndim)))


def _last_line(error: Exception) -> str:
    # TorchScript tells where in its code it was; what went wrong comes last.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[-1] if lines else type(error).__name__:.200}"
