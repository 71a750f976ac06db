"""Contract suites: what every kind of distribution, predictor, MRF and solver must fulfil.

Others inherit them to test their own kinds. pytest is needed here, and nowhere else in the package.
"""

try:
    import pytest as pytest
except ModuleNotFoundError as error:
    raise ImportError(
        "napari_structseg.testing holds tests to inherit and needs pytest. Run: pip install pytest"
    ) from error
