"""Where real photos and published ground truth lie, for tests that need them."""

import os
from pathlib import Path

import pytest

SHARED = Path(
    os.environ.get("INDIRET_SHARED_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
)
OXFORD = SHARED / "oxford5k_sample"
TRUTH = SHARED / "groundtruth"
needs_oxford = pytest.mark.skipif(not OXFORD.is_dir(), reason=f"no real photos at {OXFORD}")
needs_truth = pytest.mark.skipif(not TRUTH.is_dir(), reason=f"no real ground truth at {TRUTH}")
