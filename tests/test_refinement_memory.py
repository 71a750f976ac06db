"""What mean field is said to take of memory, against what it holds after real runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_structseg.controls import ITERATIONS_MAX, Controls
from napari_structseg.distributions import LowRankNormal
from napari_structseg.priors import EnergyPrior, MarkovPrior
from napari_structseg.refine.refinement import refinement_bytes
from napari_structseg.session.messages import Request, View
from napari_structseg.session.work.refined import refined_by_mean_field


def held_bytes(thing: object, without: list[object]) -> int:
    """Bytes of all arrays and tensors that can be reached from an object."""
    seen = {id(one) for one in without}
    waiting, storages, total = [thing], {}, 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        elif isinstance(one, np.ndarray):
            if one.base is None:
                total += one.nbytes
            else:
                waiting.append(one.base)
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple, set)):
            waiting.extend(one)
        elif type(one).__module__.startswith(("napari_structseg", "functools", "builtins")):
            waiting.extend(vars(one).values() if hasattr(one, "__dict__") else ())
            slots = getattr(type(one), "__slots__", ())
            waiting.extend(getattr(one, name) for name in slots if hasattr(one, name))
            closure = getattr(one, "__closure__", None) or ()
            waiting.extend(cell.cell_contents for cell in closure)
            waiting.extend(
                getattr(one, name) for name in ("func", "args", "__self__") if hasattr(one, name)
            )
    return total + sum(storages.values())


def potts(n_classes: int, attraction: float) -> MarkovPrior:
    prior = EnergyPrior(3, n_classes)
    with torch.no_grad():
        prior.couplings[range(n_classes), range(n_classes)] = attraction
    return prior.requires_grad_(False)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize(("attraction", "is_calm"), [(0.05, True), (-3.0, False)])
def test_the_estimate_bounds_what_is_held(n_classes: int, attraction: float, is_calm: bool) -> None:
    shape = (12, 40, 44)
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn((n_classes, *shape), generator=generator)
    factor = torch.randn((1, n_classes, *shape), generator=generator)
    distribution = LowRankNormal(mean, factor, torch.ones(n_classes, *shape))
    prior = potts(n_classes, attraction)
    work = refined_by_mean_field(distribution, prior, 0.001)
    request = Request(Controls(sample=1, iterations=ITERATIONS_MAX), View(0, 5))
    progress = (*work.visible(1, request), *work.volume(1, request))[-1]
    assert progress.reached == ITERATIONS_MAX
    # Repelling neighbours change their minds in every iteration.
    assert (progress.convergence.changed[-1] < 0.2) == is_calm
    estimate = refinement_bytes(n_classes, shape)
    held = held_bytes(work, [distribution, prior])
    assert held <= estimate
    if n_classes > 2 or not is_calm:
        assert estimate <= 2 * held
