"""`indiret.pickles`: plain data as Python's own reader gives it, and nothing that runs."""

import collections
import os
import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.pickles import MAX_BYTES, read_plain_pickle

SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.tuples() | st.dictionaries(st.text(), inner)
    ),
    max_leaves=40,
)


@settings(deadline=None)
@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_every_protocol(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(path) == value


@settings(deadline=None)
@given(value=PLAIN, at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_byte_gives_data_or_a_sentence(tmp_path_factory, value, at, byte):
    path = tmp_path_factory.getbasetemp() / "changed.pkl"
    data = bytearray(pickle.dumps(value, 2))
    data[at % len(data)] = byte
    path.write_bytes(data)
    try:
        read_plain_pickle(path)
    except ValueError as error:
        assert str(error).startswith(str(path))


class Call:
    """A pickle of it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        lambda file: Call(os.mkdir, file),
        lambda file: {"gnd": [Call(exec, f"open({file!r}, 'w')")]},
        lambda file: collections.OrderedDict(a=1),
        lambda file: {1, 2},
        lambda file: b"bytes",
        lambda file: np.arange(3),
    ],
    ids=["call", "nested call", "class", "set", "bytes", "array"],
)
def test_nothing_is_called(tmp_path, value, protocol):
    made = tmp_path / "made"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(value(str(made)), protocol))
    with pytest.raises(ValueError, match="holds more than plain data"):
        read_plain_pickle(path)
    assert not made.exists()


def test_hand_written_opcodes(tmp_path):
    path = tmp_path / "a.pkl"
    for opcodes in (
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\no.",
    ):
        assert list(pickletools.genops(opcodes))  # each is a pickle that would run `true`
        path.write_bytes(opcodes)
        with pytest.raises(ValueError, match="holds more than plain data"):
            read_plain_pickle(path)
    far = b"\x80\x02]r\xff\xff\xff\xff."  # memo place 4294967295, for which pickle takes gigabytes
    path.write_bytes(far)
    assert read_plain_pickle(path) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a text\n",
        b"\x80\x02]",
        b"\x80\x02a.",
        b"\x80\x02e.",
        b"\x80\x02h\x05.",
        b"\x80\x02]](s.",
        b"\x80\x02}(]K\x01u.",
        b"\x80\x02NN.",
    ],
)
def test_broken_pickles(tmp_path, data):
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.pkl is not a whole pickle"):
        read_plain_pickle(path)


def test_too_large(tmp_path):
    path = tmp_path / "a.pkl"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="has 16000001 bytes"):
        read_plain_pickle(path)
