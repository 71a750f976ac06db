"""Kinds of MRFs, one module each: the MRF, and its specification with fields and title.

A new kind is a module here and an entry below; or a module anywhere that calls
:func:`napari_structseg.priors.register`. It is held to `napari_structseg.testing.priors`.
"""

from __future__ import annotations

from napari_structseg.priors.kinds.energy import EnergySpec
from napari_structseg.priors.kinds.network import NetworkSpec
from napari_structseg.priors.spec import register

__all__ = ["EnergySpec", "NetworkSpec"]

register(NetworkSpec, EnergySpec)
