"""The CPU path of rendering: right to rounding, and never on more than one thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from napari_structseg.distributions.one_thread import (
    chunks,
    compact,
    inverse_error_function_,
    square_root,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(("n", "size"), [(0, 4), (1, 4), (8, 4), (9, 4), (3, 100)])
def test_chunks_cover_everything_once(n: int, size: int) -> None:
    parts = list(chunks(n, CPU, size))
    assert [index for part in parts for index in range(n)[part]] == list(range(n))
    assert all(0 < part.stop - part.start <= size for part in parts)


def test_a_gpu_gets_everything_at_once() -> None:
    assert list(chunks(100_000, torch.device("cuda"), 10)) == [slice(0, 100_000)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_compact_is_the_contiguous_copy(dtype: torch.dtype) -> None:
    values = torch.randn((4, 5, 6, 7), generator=torch.Generator().manual_seed(0)).to(dtype)
    column = values[..., 3:4]
    laid_out = compact(column)
    assert laid_out.is_contiguous()
    assert laid_out.dtype == dtype
    assert torch.equal(laid_out, column)
    assert compact(values).data_ptr() == values.data_ptr()


def test_square_root_of_variances_in_any_precision() -> None:
    values = torch.tensor([0.0, 1e-5, 0.25, 4.0, 60000.0])
    for dtype in (torch.float16, torch.float32, torch.float64):
        root = square_root(values.to(dtype))
        assert root.dtype == torch.float32
        torch.testing.assert_close(root, values.to(dtype).float().sqrt())


def test_inverse_error_function_is_that_of_scipy() -> None:
    near_one = 1 - np.logspace(-7, -0.1, 2000)
    x = np.concatenate([-near_one, [0.0], np.linspace(-0.9, 0.9, 5001), near_one])
    x = np.clip(x.astype(np.float32), -(1 - 2.0**-23), 1 - 2.0**-23)
    values = inverse_error_function_(torch.from_numpy(x.copy()))
    np.testing.assert_allclose(values, special.erfinv(x.astype(np.float64)), rtol=1e-6)
    assert inverse_error_function_(torch.zeros(0)).numel() == 0


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux to count threads")
def test_rendering_a_slice_starts_no_threads() -> None:
    # torch starts its threads the first time that it shares a step between them.
    code = """
import os
import torch
from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, slice_region
from napari_structseg.render.rendering import Renderer

torch.set_num_threads(1)
shape = (3, 200, 300)
distribution = LowRankNormal(
    torch.randn((4, *shape)), torch.randn((3, 4, *shape)), torch.rand((4, *shape))
)
torch.set_num_threads(4)
before = len(os.listdir("/proc/self/task"))
renderer = Renderer(distribution)
for sample in (0, 1, 2):
    for axis in (0, 1, 2):
        renderer.visible_labels(Controls(sample=sample), slice_region(shape, axis, 1))
    renderer.render_volume(Controls(sample=sample, temperature=0.5))
print(len(os.listdir("/proc/self/task")) - before)
torch.randn(1_000_000).exp()
print(len(os.listdir("/proc/self/task")) - before)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    rendering, exponentials = finished.stdout.split()
    assert rendering == "0"
    assert int(exponentials) > 0
