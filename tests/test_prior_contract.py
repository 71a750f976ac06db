"""Every kind of MRF fulfils the contract that ships with the package."""

from __future__ import annotations

import pytest

from napari_structseg.priors import EnergyPrior, MarkovPrior, NetworkPrior, nudged
from napari_structseg.testing.priors import MarkovPriorContract
from test_priors import random_prior


@pytest.mark.parametrize("dimensions", [2, 3])
class TestNetwork(MarkovPriorContract):
    @pytest.fixture
    def prior(self, dimensions: int) -> MarkovPrior:
        return random_prior(NetworkPrior, dimensions, 3, scale=0.4)


@pytest.mark.parametrize("dimensions", [2, 3])
class TestEnergy(MarkovPriorContract):
    @pytest.fixture
    def prior(self, dimensions: int) -> MarkovPrior:
        return random_prior(EnergyPrior, dimensions, 3, scale=0.4)


@pytest.mark.parametrize("dimensions", [2, 3])
class TestNudgedEnergy(MarkovPriorContract):
    @pytest.fixture
    def prior(self, dimensions: int) -> MarkovPrior:
        return nudged(random_prior(EnergyPrior, dimensions, 3, scale=0.4), [(1, 2, -0.8)])


@pytest.mark.parametrize("dimensions", [2, 3])
class TestNudgedNetwork(MarkovPriorContract):
    @pytest.fixture
    def prior(self, dimensions: int) -> MarkovPrior:
        return nudged(random_prior(NetworkPrior, dimensions, 3, scale=0.4), [(1, 2, -0.8)])
