"""A part of a picture, the whole, and another picture, encoded once for all tests."""

import numpy as np
import pytest

from indiret.planes import PlaneFeatures, PlaneRetriever
from tests.planes.test_matching import SMALL, scene

RETRIEVER = PlaneRetriever(SMALL)


@pytest.fixture(scope="package")
def views() -> tuple[PlaneFeatures, ...]:
    whole = scene(0)
    part = np.ascontiguousarray(whole[10:80, 20:110])
    return RETRIEVER.encode(part), RETRIEVER.encode(whole), RETRIEVER.encode(scene(1))
