"""What the explorer packs, read again by numpy; and what it refuses to pack."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from indiret.widgets.payload import Candidate, pack_channels

QUERY_GRID, TARGET_GRIDS = (3, 6), ((5, 4), (4, 5))


def noise(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def candidate(seed: int = 0, grid: tuple[int, int] = TARGET_GRIDS[0], **others) -> Candidate:
    """Evidence with many zeros, and a view with both signs."""
    random = np.random.default_rng(seed)
    shape = (*grid, *QUERY_GRID)
    matches = np.stack([random.integers(0, side, QUERY_GRID) for side in grid], axis=-1)
    matches[0, :3] = -1
    channels = {
        "combined": {"tensor": np.maximum(0, random.normal(size=shape))},
        "gradcam": {"stem": random.random(shape), "stage1": random.random(shape)},
        "none / HAR / PRF": {name: random.random(shape) for name in ("none", "HAR", "PRF")},
        "views": {"stem": random.normal(size=shape), "colour": random.normal(size=shape)},
    }
    given = {"true_matches": matches, "channels": channels} | others
    return Candidate(f"candidate {seed}", noise(120, 90, seed), **given)


def unpack_header(payload: bytes) -> tuple[dict, bytes]:
    """The header, and what follows it."""
    whole = zlib.decompress(payload)
    end = 4 + struct.unpack("<I", whole[:4])[0]
    return json.loads(whole[4:end]), whole[end:]


def unpack(payload: bytes):
    """The header, and each candidate's channels: a second reader in numpy."""
    header, whole = unpack_header(payload)
    at, numbers = header["query"]["jpeg"], []
    for entry in header["candidates"]:
        at += entry["jpeg"]
        shape = *entry["grid"], *header["query"]["grid"]
        numbers.append({})
        for channel in entry["channels"]:
            key, count = (channel["group"], channel["name"]), int(np.prod(shape))
            part = np.frombuffer(whole, np.uint8, count, at).reshape(shape)
            low, high = channel["low"], channel["high"]
            numbers[-1][key] = low + (high - low) * (part / 255)
            at += count
    assert at == len(whole)
    return header, numbers


@settings(max_examples=25, deadline=None)
@given(arrays.arrays(float, (2, 3, 1, 2), elements=st.floats(-1e6, 1e6, allow_subnormal=False)))
def test_channels_decode_to_within_half_a_step(values):
    one = Candidate("a", noise(), {"g": {"n": values}})
    header, numbers = unpack(pack_channels("q", noise(), [one]))
    (channel,) = header["candidates"][0]["channels"]
    step = (channel["high"] - channel["low"]) / 255
    assert channel["low"] == min(0, values.min())
    assert np.abs(numbers[0]["g", "n"] - values).max() <= step * 0.5001
    if values.min() >= 0:  # no evidence stays none
        assert (numbers[0]["g", "n"][values == 0] == 0).all()


def test_names_grids_and_true_matches_are_packed():
    one = candidate(caption="90%", relevant=True)
    header, _ = unpack(pack_channels("q", noise(), [one]))
    (entry,) = header["candidates"]
    assert header["query"]["grid"] == [3, 6] and header["query"]["size"] == [90, 120]
    assert (entry["name"], entry["caption"], entry["relevant"]) == ("candidate 0", "90%", True)
    assert (entry["grid"], entry["size"]) == ([5, 4], [120, 90])
    assert entry["true_matches"][:3] == [-1, -1, -1]
    i, j = one.true_matches[2, 5]
    assert entry["true_matches"][2 * 6 + 5] == i * 4 + j


def one_group(**channels) -> Candidate:
    return candidate(channels={"g": channels})


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "no candidate"),
        ([candidate(channels={})], "one channel or more"),
        ([one_group(a=np.ones((2, 2, 2)))], "m, n, m', n'"),
        ([one_group(a=np.ones((2, 2, 2, 2)), b=np.ones((2, 2, 2, 3)))], "all of one shape"),
        ([one_group(a=np.full((5, 4, 3, 6), np.nan))], "g / a holds NaN"),
        ([candidate(true_matches=np.zeros((3, 5, 2), int))], "true_matches has shape"),
        ([candidate(true_matches=np.full((3, 6, 2), 5))], "target's grid"),
        ([candidate(), one_group(a=np.ones((5, 4, 3, 6)))], "Give all the same"),
    ],
)
def test_wrong_candidates_are_refused(candidates, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pack_channels("q", noise(), candidates)


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"float64 of shape .* give uint8"):
        pack_channels("q", noise() / 255, [candidate()])
