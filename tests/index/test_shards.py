"""Codes on disk: what is read is what was written, or an error."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.index.shards import SHARD, CodeStore, DamagedError, PhotoCodes, Shard, write_shard

RECORDS = {number: PhotoCodes(f"{number:032x}", bytes([number]) * number) for number in (3, 5, 40)}
contents = st.dictionaries(st.integers(0, 3 * SHARD), st.binary(max_size=50), max_size=8)


@settings(max_examples=30, deadline=None)
@given(old=contents, new=contents, known=st.sets(st.integers(0, 3 * SHARD)))
def test_codes_are_those_of_a_dictionary(old, new, known):
    """Those that are added replace, and others stay if they are known and of the same file."""
    known |= {*list(old)[::2]}
    files = {number // SHARD for number in new}
    expected = {n: one for n, one in old.items() if n in known or n // SHARD not in files} | new
    with TemporaryDirectory() as folder:
        codes = CodeStore(Path(folder))
        for values in (old, new):
            records = {n: PhotoCodes(f"{n:032x}", packed) for n, packed in values.items()}
            codes.add(records, known)
        assert codes.stored() == {(n, f"{n:032x}") for n in expected}
        assert all(codes.read(n, f"{n:032x}") == packed for n, packed in expected.items())
        assert all(codes.size(n) == len(expected.get(n, b"")) for n in range(0, 3 * SHARD, 500))
        codes.compact(new.keys())
        assert {n for n, _ in codes.stored()} >= new.keys()


def test_space_is_won_back_where_a_quarter_is_gone(tmp_path):
    codes = CodeStore(tmp_path)
    codes.add({n: PhotoCodes("a" * 32, bytes(9)) for n in range(SHARD + 8)}, ())
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    codes.compact(range(2, SHARD + 8))
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == sizes
    codes.compact(range(SHARD // 2))
    (left,) = tmp_path.iterdir()
    assert left.stat().st_size < 0.6 * sizes["000000.codes"] and len(codes.stored()) == SHARD // 2


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_what_is_cut_or_changed_is_never_believed(tmp_path, at):
    path = tmp_path / "000000.codes"
    write_shard(path, RECORDS)
    whole = path.read_bytes()
    at %= len(whole)
    for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]):
        path.write_bytes(damaged)
        found = {}
        for number in RECORDS:
            try:
                found[number] = Shard(path).read(number)
            except DamagedError:
                continue
        assert found.items() < RECORDS.items()


def test_a_file_that_is_replaced_is_read_as_it_is_now(tmp_path):
    codes = CodeStore(tmp_path)
    for content in ("a" * 32, "b" * 32):
        codes.add({7: PhotoCodes(content, content.encode())}, ())
        assert codes.read(7, content) == content.encode()
    for lost in ((7, "a" * 32), (8, "b" * 32), (SHARD, "b" * 32)):
        with pytest.raises(DamagedError, match=f"lacks the codes of photo {lost[0]}"):
            codes.read(*lost)
