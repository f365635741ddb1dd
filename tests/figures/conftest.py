"""Every figure is closed for pyplot by the function that drew it."""

import pytest
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def nothing_is_left_open():
    yield
    assert plt.get_fignums() == []
