"""Work on a CPU that stays within one thread.

Rendering a slice is some hundred steps of microseconds. torch splits any step of more than
32,768 elements, and its vendor's library any logarithm or root, over all cores and waits for the
last of them: on a machine with anything else to do, such as painting the slice before, that wait
is many times longer than the step. numpy does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

CHUNK = 1 << 15

# Giles, *Approximating the erfinv function*, GPU Computing Gems, 2010: polynomials in
# w = -ln(1 - x^2), highest power first, for w - 2.5 below 5 and sqrt(w) - 3 above.
_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04,
    -1.25372503e-03, -4.17768164e-03, 2.46640727e-01, 1.50140941,
)  # fmt: skip
_TAIL = (
    -2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03,
    -7.6224613e-03, 9.43887047e-03, 1.00167406, 2.83297682,
)  # fmt: skip
_TAIL_FROM = 5.0


@cache
def _pools() -> ThreadpoolController:
    """The thread pools of the libraries that are loaded; looking for them takes milliseconds."""
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep what this thread computes inside to itself, matrix products included.

    numpy's matrix products stay within one thread in the whole process for that time.
    """
    with _pools().limit(limits=1):
        yield


def team(n_threads: int) -> ThreadPoolExecutor:
    """Threads each of which keeps what it computes to itself."""
    openmp = _pools().select(user_api="openmp")
    # The limit is of the thread that sets it, for as long as it lives.
    return ThreadPoolExecutor(
        n_threads, "structseg-sites", initializer=partial(openmp.limit, limits=1)
    )


def chunks(n: int, device: torch.device, size: int = CHUNK) -> Iterator[slice]:
    """Cut ``n`` elements into slices of at most ``size``; not at all on a GPU."""
    step = max(1, size if device.type == "cpu" else n)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def compact(values: Tensor) -> Tensor:
    """Lay values out contiguously; they are copied only if they are not so yet."""
    if values.device.type != "cpu":
        return values.contiguous()
    return torch.from_numpy(np.ascontiguousarray(values.numpy()))


def square_root(values: Tensor) -> Tensor:
    """Square root, float32."""
    if values.device.type != "cpu":
        return values.float().sqrt()
    return torch.from_numpy(np.sqrt(values.numpy(), dtype=np.float32))


def add_weighted_(total: Tensor, rows: Sequence[Tensor], weights: Sequence[float]) -> None:
    """Add rows times their weights to a total, one row after the other.

    Value by value: the sum of an element does not depend on where in the rows it lies, as it does
    in a product of matrices.

    Parameters
    ----------
    total
        ``(n,)``, float32, contiguous.
    rows, weights
        R rows ``(n,)`` in single or half precision.
    """
    if total.device.type != "cpu":
        for row, weight in zip(rows, weights, strict=True):
            total += row.float() * weight
        return
    values = total.numpy()
    products = np.empty(min(CHUNK, len(values)), np.float32)
    for part in chunks(len(values), total.device):
        some = values[part]
        product = products[: len(some)]
        for row, weight in zip(rows, weights, strict=True):
            np.multiply(row[part].float().numpy(), np.float32(weight), out=product)
            some += product


def inverse_error_function_(values: Tensor) -> Tensor:
    """Replace float32 values between -1 and 1 by their inverse error function."""
    if values.device.type != "cpu":
        return values.erfinv_()
    x = values.numpy()
    w = np.subtract(1, x)
    w *= 1 + x
    np.log(w, out=w)
    np.negative(w, out=w)
    tail = np.flatnonzero(w >= _TAIL_FROM)
    tail_factor = _polynomial(_TAIL, np.sqrt(w[tail]) - 3)
    w -= 2.5
    factor = _polynomial(_CENTRE, w)
    factor[tail] = tail_factor
    x *= factor
    return values


def _polynomial(
    coefficients: tuple[float, ...], x: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value
