"""What tests of several files share."""

import pytest

from tests.tiny_town import make_tiny_town


@pytest.fixture(scope="session")
def towns(tmp_path_factory):
    """A town to train on and one to validate with, of other landmarks."""
    folder = tmp_path_factory.mktemp("towns")
    return (
        make_tiny_town(folder / "train", "a"),
        make_tiny_town(folder / "validation", "b", landmarks=4, seed=1),
    )
