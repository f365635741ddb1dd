"""`indiret.datasets.pickles`: plain data as Python's own reader gives it, and nothing that runs."""

import collections
import copyreg
import os
import pickle
import pickletools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.datasets import pickles
from indiret.datasets.files import MAX_INTEGER, MAX_PICKLE
from indiret.datasets.pickles import read_plain_pickle

INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
SCALARS = st.none() | st.booleans() | INTEGERS | st.text() | st.floats(allow_nan=False)
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=40
)


@settings(deadline=None, max_examples=50)
@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_every_protocol(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(path) == value


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
        lambda file: ("a", "tuple"),
        lambda file: np.arange(3),
    ],
    ids=["call", "nested call", "class", "set", "bytes", "tuple", "array"],
)
def test_nothing_is_called(tmp_path, value, protocol):
    made = tmp_path / "made"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(value(str(made)), protocol))
    with pytest.raises(ValueError, match="holds more than plain data"):
        read_plain_pickle(path)
    assert not made.exists()


HOSTILE = {
    "GLOBAL and REDUCE": b"cos\nmkdir\n(S'made'\ntR.",
    "INST": b"(S'made'\nios\nmkdir\n.",
    "OBJ": b"(cos\nmkdir\nS'made'\no.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x04made\x85R.",
    "NEWOBJ": b"\x80\x02ctempfile\nTemporaryFile\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04\x8c\x07pathlib\x8c\x04Path\x93)}\x92.",
    "EXT1": b"\x80\x02\x82\xf0U\x04made\x85R.",
    "EXT4": b"\x80\x02\x84\xf0\x00\x00\x00U\x04made\x85R.",
    "PERSID": b"Pmade\n.",
    "BINPERSID": b"U\x04madeQ.",
    "REDUCE of a text": b"S'os.mkdir'\nS'made'\n\x85R.",
    "BUILD": b"]}b.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "deeply nested tuple as a key": b"})" + b"\x85" * 1_000_000 + b"K\x01s.",
}


@pytest.fixture
def extension():
    """A program may have registered a function under a number that a pickle can give."""
    copyreg.add_extension("os", "mkdir", 0xF0)
    yield
    copyreg.remove_extension("os", "mkdir", 0xF0)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_opcodes(tmp_path, monkeypatch, extension, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match="holds more than plain data"):
        read_plain_pickle(path)
    if "tuple" not in name:  # the unpickler by itself calls nothing either
        every = {opcode.name for opcode in pickletools.opcodes}
        monkeypatch.setattr(pickles, "PLAIN_OPCODES", every)
        with pytest.raises(ValueError, match="is not a whole pickle"):
            read_plain_pickle(path)
    assert os.listdir(tmp_path) == ["a.pkl"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a text\n",
        b"\x80\x02]",
        b"\x80\x02a.",
        b"\x80\x02h\x05.",
        b"\x80\x02}(]K\x01u.",
        b"\x80\x09N.",
        b"\x80\x02]r\xff\xff\xff\xff.",  # memo place 4294967295: gigabytes
        b"]p4294967295\n.",
        b"]p-1\n.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a text of 2 GB in a file of 12 bytes
        b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",  # a number of 2 GB
        b"\x80\x04\x95" + b"\xff" * 8 + b"N.",  # a frame of 16 million TB
        b"I" + b"9" * 1_000_000 + b"\n.",  # minutes, were it read as decimals
        pickle.dumps({k * (2**61 - 1): None for k in range(2000)}),  # keys of one hash
        pickle.dumps({float(k * (2**61 - 1)): k << 60 for k in range(2000)}),
        b"]" * 2_000_000 + b"a" * 1_999_999 + b".",
        b"}" * 2_000_000 + b".",
        b"(" * 2_000_000 + b".",
        pickle.dumps([[n] for n in range(300_000)], 2),
    ],
)
def test_broken_pickles_and_memory_bombs(tmp_path, data):
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.pkl is not a whole pickle"):
            read_plain_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stored", ["café".encode(), b"caf\xe9"])
def test_texts_of_python_2_are_read_as_the_names_of_files_are(tmp_path, stored):
    (tmp_path / "a.pkl").write_bytes(b"U" + bytes([len(stored)]) + stored + b".")
    assert read_plain_pickle(tmp_path / "a.pkl") == os.fsdecode(stored)


def test_deep_lists_and_lists_in_themselves_do_no_harm_and_large_files_are_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"]" * 100_000 + b"a" * 99_999 + b".")
    assert len(read_plain_pickle(path)) == 1
    path.write_bytes(b"]q\x00h\x00a.")
    own = read_plain_pickle(path)
    assert own[0] is own
    with open(path, "wb") as file:
        file.truncate(MAX_PICKLE + 1)
    with pytest.raises(ValueError, match="has 4,000,001 bytes"):
        read_plain_pickle(path)
