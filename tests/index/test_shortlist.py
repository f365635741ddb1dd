"""Shortlists: an inverted file equals counting all, merging equals making anew, damage is told."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from indiret.datasets import load_dataset
from indiret.index import pixels
from indiret.index.arrays import create_arrays, open_arrays, release
from indiret.index.collection import search_turned, turn_query
from indiret.index.pixels import PixelShortlist
from indiret.index.postings import POSTING, TAIL, InvertedFile, write_segment
from indiret.index.segments import SegmentStore
from indiret.index.shortlist import build_shortlist
from indiret.index.vectors import VectorShortlist, quantise_vector
from tests.callers import SETTINGS


def picture(seed, shape=(12, 16)):
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    return noise.repeat(10, axis=0).repeat(10, axis=1)


STATUS = Path("/proc/self/status")
PICTURES = [picture(seed) for seed in range(6)]
NUMBERS = [3, 4, 8, 11, 12, 20]


@pytest.fixture(scope="module")
def shortlist():
    return PixelShortlist()


@pytest.fixture(scope="module")
def described(shortlist):
    return [shortlist.describe(one, None) for one in PICTURES]


@pytest.fixture(scope="module")
def query(shortlist):
    return shortlist.describe_query(PICTURES[2][20:110, 30:150], None)


@pytest.fixture
def segment(shortlist, described, tmp_path):
    shortlist.build(tmp_path / "all", NUMBERS, described)
    return shortlist.open(tmp_path / "all")


def naive_scores(query, described):
    """Votes counted posting by posting, in a dense array of planes."""
    votes = np.zeros((len(described), 16, 33, 33))
    asked = query.distinct[query.asked]
    for level, place, words in zip(query.levels, query.places, asked, strict=True):
        found = [np.flatnonzero(np.isin(one["word"], words)) for one in described]
        rate = sum(map(len, found)) / len(described)
        weight = 1 / np.sqrt((rate + pixels.RARITY) * (query.levels == level).sum())
        for photo, postings in enumerate(found):
            for posting in postings:
                filed = int(described[photo]["place"][posting])
                at = 2 * np.array([filed >> 6 & 63, filed & 63])
                shift = (at - place) * 111 / {1: 88, 2: 111, 3: 140}[int(level)]
                down, right = ((shift + pixels.MOST_PLACES) // pixels.BIN).astype(int)
                votes[photo, (filed >> 12) - level + 3, down, right] += weight
    single = votes[:, :, :-1, :-1]
    around = single + votes[:, :, 1:, :-1] + votes[:, :, :-1, 1:] + votes[:, :, 1:, 1:]
    around = np.where(single > 0, around, 0).reshape(len(described), -1)
    highest, mean = around.max(1), around.sum(1) / pixels.PLANES
    deviation = np.sqrt((around**2).sum(1) / pixels.PLANES - mean**2)
    return highest * (highest - mean) / np.maximum(deviation, 1e-6)


def test_a_turned_query_is_listed_where_it_is_asked_for_in_all_turns(shortlist, tmp_path):
    town, store = load_dataset("toytown", split="validation"), SegmentStore(tmp_path, shortlist)
    photos = [town.read(name) for name in list(town.images)[::3]]
    store.add({n: shortlist.describe(one, None) for n, one in enumerate(photos)}, ())
    places = {1: [], 12: []}
    for number, degrees in ((0, 95), (12, 155), (24, 215), (36, 325)):
        turned = Image.fromarray(photos[number]).rotate(degrees, expand=True)
        for turns, found in places.items():
            asked = turn_query(shortlist, np.asarray(turned), None, turns)
            found.append(search_turned(store, asked, map).index(number))
    assert np.mean(places[12]) < 0.2 * np.mean(places[1]), places


def test_an_inverted_file_counts_all_votes(segment, query, described):
    naive = naive_scores(query, described)
    np.testing.assert_allclose(segment.scores(query), naive, rtol=1e-5, atol=1e-12)
    assert naive.argmax() == 2 and naive[2] > 2 * np.delete(naive, 2).max()
    numbers, scores = segment.search(query, 3)
    assert numbers[0] == 8 and (np.diff(scores) <= 0).all() and len(numbers) == 3


def test_merging_equals_making_anew(shortlist, described, segment, tmp_path):
    for name, part in (("odd", slice(1, None, 2)), ("even", slice(0, None, 2))):
        shortlist.build(tmp_path / name, NUMBERS[part], described[part])
    parts = [shortlist.open(tmp_path / name) for name in ("odd", "even")]
    shortlist.merge(tmp_path / "merged", parts, ())
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "all").read_bytes()
    shortlist.merge(tmp_path / "fewer", parts, {8, 20})
    rest = [0, 1, 3, 4]
    shortlist.build(tmp_path / "rest", [NUMBERS[at] for at in rest], [described[at] for at in rest])
    assert (tmp_path / "fewer").read_bytes() == (tmp_path / "rest").read_bytes()


def test_the_rarest_words_are_read(segment, query, monkeypatch):
    monkeypatch.setattr(segment, "find_rare", lambda query, most: segment.find(query.distinct))
    monkeypatch.setattr(pixels, "MOST_READ", 0)
    assert not segment.scores(query).any()
    lengths = segment.find(query.distinct)[1][query.asked]
    rarest = lengths[lengths > 0].min()
    monkeypatch.setattr(pixels, "MOST_READ", 40 * rarest)
    planes, votes = segment.votes(query)
    assert 0 < len(planes) <= 40 * rarest and (np.diff(planes) > 0).all() and (votes > 0).all()


def test_words_of_full_cells_are_not_looked_up(segment, query):
    every = segment.find(query.distinct)
    np.testing.assert_array_equal(segment.find_rare(query, np.inf), every)
    first, lengths = segment.find_rare(query, 0.5)
    sought = lengths > 0
    np.testing.assert_array_equal(first[sought], every[0][sought])
    cells = query.distinct >> TAIL
    sizes = np.diff(segment.starts)[cells]
    found = every[1] > 0
    assert 0 < sought.sum() < found.sum()
    assert sizes[sought].max() <= sizes[found & ~sought].min()


def assert_found(segment, filed, words):
    """That the postings of words are found where they lie in a file."""
    every = np.sort(np.asarray(filed, np.int64))
    first, lengths = segment.find(words)
    np.testing.assert_array_equal(first, np.searchsorted(every, words))
    np.testing.assert_array_equal(first + lengths, np.searchsorted(every, words, side="right"))


def test_words_are_found_where_they_lie(segment, described):
    filed = np.concatenate([one["word"] for one in described])
    assert_found(segment, filed, np.append(np.sort(filed)[::7].astype(int), [0, 1, 2**24 - 1]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 255, 256, 258, 2**24 - 1]), st.integers(0, 20))))
def test_words_of_long_runs_are_found(runs):
    postings = np.zeros(sum(count for _, count in runs), POSTING)
    postings["word"] = np.repeat(*zip(*runs, strict=True)) if runs else 0
    with TemporaryDirectory() as folder:
        write_segment(path := Path(folder, "runs"), [5], [postings])
        near = [word + step for word, _ in runs for step in (-1, 0, 1)]
        words = np.unique(np.clip([*near, 7], 0, 2**24 - 1))
        assert_found(InvertedFile(path), postings["word"], words)


def test_postings_come_once_in_pieces_of_the_file(segment, query, monkeypatch):
    monkeypatch.setattr("indiret.index.postings.PIECE", 5)
    first, lengths = segment.find(query.distinct)
    pieces = list(segment.read(first, lengths))
    assert max(len(photos) for photos, _, _ in pieces) <= 5 + lengths.max()
    photos, places, runs = map(np.concatenate, zip(*pieces, strict=True))
    order = np.argsort(first, kind="stable")
    at = np.concatenate([np.arange(first[run], first[run] + lengths[run]) for run in order])
    np.testing.assert_array_equal(photos, segment.photos[at])
    np.testing.assert_array_equal(places, segment.places[at])
    np.testing.assert_array_equal(runs, np.repeat(order, lengths[order]))


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell what is in memory")
def test_what_was_read_of_a_file_leaves_the_memory(tmp_path):
    def megabytes():
        """Of mapped files, on a disk or in memory."""
        return sum(map(int, re.findall(r"Rss(?:File|Shmem):\s+(\d+)", STATUS.read_text()))) / 1000

    with create_arrays(tmp_path / "large", {"bytes": ("U8", (50_000_000,))}) as arrays:
        arrays["bytes"][:] = 1
    large, before = open_arrays(tmp_path / "large")["bytes"], megabytes()
    assert large.sum() == 50_000_000 and megabytes() > before + 40
    release(large)
    assert megabytes() < before + 10
    assert large.sum() == 50_000_000


def test_likely_words_are_those_with_the_least_flipped():
    projected = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 24)))
    words = pixels.likely_words(projected.float(), 50)
    bits = words[..., None] >> np.arange(24) & 1
    flipped = bits != (projected > 0).numpy()[:, None]
    doubts = (flipped * projected.numpy()[:, None] ** 2).sum(2)
    assert (doubts[:, 0] == 0).all() and (np.diff(doubts) > 0).all()
    doubtful = np.sort(projected.numpy() ** 2)[:, :2]
    np.testing.assert_allclose(doubts[:, 1], doubtful[:, 0])


def test_a_blank_photo_is_filed_and_asks(shortlist, segment, tmp_path):
    blank = np.full((90, 120, 3), 128, np.uint8)
    shortlist.build(tmp_path / "blank", [1], [shortlist.describe(blank, None)])
    one, asked = shortlist.open(tmp_path / "blank"), shortlist.describe_query(blank, None)
    assert one.search(asked, 5)[1].tolist() == [0.0]
    assert segment.search(asked, 9)[0].tolist() == NUMBERS


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_the_caller_has_set_changes_nothing(shortlist, described, setting):
    with SETTINGS[setting]():
        assert shortlist.describe(PICTURES[0], None).tobytes() == described[0].tobytes()


@pytest.mark.parametrize("cut", (0, 4, 100, -1))
def test_a_damaged_file_is_refused(shortlist, segment, tmp_path, cut):
    whole = (tmp_path / "all").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:cut])
    with pytest.raises(ValueError, match="damaged; delete it"):
        shortlist.open(tmp_path / "cut")


def test_a_foreign_segment_is_refused(shortlist, tmp_path):
    vectors = VectorShortlist("toy:mean")
    vectors.build(tmp_path / "vectors", [1], [np.ones(4, np.int8)])
    with pytest.raises(ValueError, match="holds no postings"):
        shortlist.open(tmp_path / "vectors")


@pytest.fixture(autouse=True)
def toy_descriptor(monkeypatch):
    from torch import nn

    from indiret.baselines.backbones import PretrainedBackbone
    from indiret.baselines.descriptors import DescriptorRetriever

    def build(name):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 24, 3, 16, 1), nn.ReLU())
        return DescriptorRetriever(PretrainedBackbone("toy", layers), "mean")

    monkeypatch.setattr("indiret.index.vectors.build_descriptor", build)


def test_vectors_are_ranked_by_their_cosines(tmp_path):
    shortlist = build_shortlist("toy:mean")
    described = [shortlist.describe(one, None) for one in PICTURES]
    shortlist.build(tmp_path / "all", NUMBERS, described)
    shortlist.build(tmp_path / "some", NUMBERS[3:], described[3:])
    shortlist.build(tmp_path / "others", NUMBERS[:3], described[:3])
    parts = [shortlist.open(tmp_path / name) for name in ("some", "others")]
    shortlist.merge(tmp_path / "merged", parts, ())
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "all").read_bytes()
    shortlist.merge(tmp_path / "fewer", parts, {8})
    query = shortlist.describe_query(PICTURES[2], None)
    numbers, cosines = shortlist.open(tmp_path / "all").search(query, 6)
    exact = [
        shortlist.describe_query(PICTURES[NUMBERS.index(one)], None) @ query for one in numbers
    ]
    np.testing.assert_allclose(cosines, exact, atol=0.01)
    assert numbers[0] == 8
    assert shortlist.open(tmp_path / "fewer").search(query, 6)[0].tolist() == numbers[1:].tolist()


def test_bytes_keep_the_direction():
    vector = np.random.default_rng(0).standard_normal(500)
    kept = quantise_vector(vector).astype(float)
    assert vector @ kept / np.linalg.norm(vector) / np.linalg.norm(kept) > 0.9999
