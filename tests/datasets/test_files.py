"""`indiret.datasets.files`: nothing but regular files of a bounded size, and one clear sentence."""

import io
import os
import socket

import numpy as np
import pytest

from indiret.datasets import files
from indiret.datasets.files import read_array, read_bytes, read_json, read_text

READERS = (read_bytes, read_text, lambda path: read_json(path, dict), read_array)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("read", READERS)
def test_what_is_no_regular_file_is_not_opened(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    os.symlink("pipe", "link")
    for name in ("pipe", "link", "socket", "/dev/zero", "."):
        with pytest.raises(ValueError, match=r"is a folder, a pipe or a device"):
            read(name)
    with pytest.raises(FileNotFoundError, match="There is no file absent"):
        read("absent")
    with open("hole", "wb") as file:
        file.truncate(2 * 2**30)
    with pytest.raises(ValueError, match=r"hole has 2,147,483,648 bytes; at most"):
        read("hole")


@pytest.mark.parametrize(
    "data",
    [
        b"caf\xc3\xa9\n",
        b"\xef\xbb\xbfcaf\xc3\xa9\n",
        "\ufeffcafé\n".encode("utf-16-le"),
        "\ufeffcaf\ufeffé\n".encode(),  # of lists that were joined
    ],
)
def test_texts_with_and_without_a_byte_order_mark(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(tmp_path / "a.txt") == "café\n"


def test_texts_that_are_none(tmp_path):
    path = tmp_path / "a.txt"
    for data, words in ((b"caf\xe9", "UTF-8"), (b"a\0b", "zero"), (b"\xff\xfea", "UTF-8")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"a\.txt is not a text file.*{words}"):
            read_text(path)
    path.write_bytes(b"caf\xe9")
    assert os.fsencode(read_text(path, errors="surrogateescape")) == b"caf\xe9"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "is not a json file"),
        (b"[" * 100_000, "is not a json file"),
        (b"9" * 10_000, "is not a json file"),
        (b"[1]", "at its top input should be a valid dictionary"),
        (b'{"a": [1, 1e400]}', r"at a\.1 input should be a finite number \(inf\)"),
        (b'{"a": [' + b"[1], " * 10**5 + b"1]}", r"at a\.0 input should be a valid integer"),
    ],
)
def test_json_of_another_kind_names_its_first_fault(tmp_path, monkeypatch, data, words):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.json.*{words}") as caught:
        read_json(tmp_path / "a.json", dict[str, list[int]])
    assert len(str(caught.value)) < len(str(tmp_path)) + 200
    monkeypatch.setattr(files, "MAX_VALUES", 3)
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"caf\\udce9": [1]}')
    assert read_json(tmp_path / "a.json", dict[str, list[int]]) == {"caf\udce9": [1]}
    (tmp_path / "a.json").write_bytes(b'{"a": [1, 2, 3]}')
    with pytest.raises(ValueError, match="holds more than 3 values"):
        read_json(tmp_path / "a.json", dict[str, list[int]])


def npy(values, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, **options)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize(
    "values", [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3, dtype="f2")), np.ones(())]
)
def test_arrays_as_numpy_reads_them(tmp_path, values, version):
    (tmp_path / "a.npy").write_bytes(npy(values, version=version))
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), np.load(tmp_path / "a.npy"))


def test_arrays_that_are_none(tmp_path):
    path, good = tmp_path / "a.npy", npy(np.arange(6.0))
    zipped = io.BytesIO()
    np.savez(zipped, a=np.ones(3))
    claims = good.replace(b"(6,), ", b"(10**9,)"), good.replace(b"(6,)", b"(9,)")
    for data in (b"", zipped.getvalue(), good[:-1], good + b"x", *claims, npy(np.array([{}]))):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.npy is not an array that can be read"):
            read_array(path)
