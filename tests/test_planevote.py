# SHIM
from tests.planes.test_matching import scene  # noqa: F401
