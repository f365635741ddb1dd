"""`indiret.evaluation.crossvalidation`: folds of both kinds, and that nothing crosses them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indiret.datasets import BENCHMARKS, Query, RetrievalDataset, load_dataset, read_pickled
from indiret.evaluation import SPLIT_PROTOCOLS, Fold, check_fold, folds, training_data
from tests.shared_data import TRUTH, needs_truth


def query(name, landmark, image=None, good=(), junk=()):
    return Query(name, image or name, None, landmark, frozenset(good), junk=frozenset(junk))


def crossing(one, other, by):
    """The slow twin of `check_fold`: what two parts share."""
    kinds = ("name", "image", "landmark")[: 3 if by == "landmark" else 2]
    return [k for k in kinds for a in one for b in other if getattr(a, k) == getattr(b, k)]


@settings(deadline=None)
@given(st.integers(3, 6), st.integers(1, 5), st.integers(0, 99), st.sampled_from([0, 0.1, 0.4]))
def test_folds_part_the_queries(landmarks, each, seed, validation):
    queries = [query(f"{m}_{i}", f"{m}") for m in range(landmarks) for i in range(each)]
    for by, units in (("landmark", landmarks), ("query", landmarks * each)):
        parts = folds(queries, by=by, n=min(units, 5), seed=seed, validation=validation)
        tested = [q for fold in parts for q in fold.test]
        assert len(tested) == len(queries) and set(tested) == set(queries)
        for fold in parts:
            assert fold.test and fold.train and bool(fold.validation) == bool(validation)
            assert sum(map(len, fold)) == len(queries)
            for one, other in ((0, 1), (0, 2), (1, 2)):
                assert not crossing(fold[one], fold[other], by)
            assert list(fold.train) == [q for q in queries if q in fold.train]
        sizes = [len({q.landmark if by == "landmark" else q.name for q in f.test}) for f in parts]
        assert max(sizes) - min(sizes) <= 1


def test_folds_follow_the_seed_and_queries_with_one_photo_stay_together():
    queries = [query(f"m_{i}", "m") for i in range(20)]
    assert folds(queries) == folds(queries) != folds(queries, seed=1)
    aside = [fold.validation for fold in folds(queries, validation=0.1)]
    assert len(set(aside)) > 1
    assert [f.test for f in folds(queries, validation=0.1)] == [f.test for f in folds(queries)]
    queries = [query(f"m_{i}", "m", image=f"photo_{i // 2}") for i in range(20)]
    for fold in folds(queries, n=10):
        assert len(fold.test) == 2 and fold.test[0].image == fold.test[1].image


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"by": "photo"}, "choose 'query' or 'landmark'"),
        ({"by": "landmark"}, "from 2 to 3"),
        ({"by": "landmark", "n": 3, "validation": 0.9}, "sets 2 of 2 aside by landmark"),
        ({"validation": -0.5}, "validation=-0.5 must be from 0 to 1"),
    ],
)
def test_bad_folds(arguments, words):
    with pytest.raises(ValueError, match=words):
        folds([query(f"{m}_{i}", m) for m in "abc" for i in range(5)], **arguments)


@pytest.mark.parametrize(
    ("test", "by", "words"),
    [
        (query("m_1", "m", "p"), "query", "query 'm_1' is in train and in test"),
        (query("m_9", "n", "m_1"), "query", "query's photo 'm_1'"),
        (query("m_2", "m"), "landmark", "landmark 'm'"),
        (query("m_2", "m"), "photo", "choose 'query' or 'landmark'"),
    ],
)
def test_what_crosses_is_named(test, by, words):
    with pytest.raises(ValueError, match=words):
        check_fold(Fold((query("m_1", "m"),), (test,)), by)
    with pytest.raises(ValueError, match=words.replace("in test", "in validation")):
        check_fold(Fold((query("m_1", "m"),), (), (test,)), by)


@pytest.fixture
def town():
    """Two landmarks that meet in the photo `both`, a third, and a distractor."""
    names = ["a1", "a2", "a3", "both", "b1", "b2", "b3", "c1", "c2", "far"]
    queries = (
        query("a_1", "a", "a1", ("a1", "a2", "both"), junk=("a3",)),
        query("a_2", "a", "a2", ("a1", "a2", "both"), junk=("a3",)),
        query("b_1", "b", "b1", ("b1", "b2", "both"), junk=("b3", "a3")),
        query("b_2", "b", "both", ("b1", "b2", "both")),
        query("c_1", "c", "c1", ("c1", "c2")),
    )
    images = {name: Path(name) for name in names}
    return RetrievalDataset("town", Path(), images, queries, images)


def test_what_may_be_learnt_from(town):
    a1, a2, b1, b2, c1 = town.queries
    part = training_data(town, Fold((b1, b2), (a1, a2), (c1,)), "landmark")
    assert list(part.images) == ["b1", "b2", "b3", "far"]
    (left,) = part.queries  # b_2 asks with a photo that answers a_1
    assert left == replace(b1, good=frozenset({"b1", "b2"}), junk=frozenset({"b3"}))
    assert set(part.query_images) == {"b1"}

    part = training_data(town, Fold((a2, b1, b2), (a1,), (c1,)), "query")
    assert set(town.images) - set(part.images) == {"a1", "c1"}
    assert [q.good for q in part.queries] == [{"a2", "both"}, b1.good, b2.good]


def test_nothing_left_to_learn_from(town):
    a1, a2, b1, b2, _ = town.queries
    with pytest.raises(ValueError, match="No query of town is left"):
        training_data(town, Fold((b2,), (a1, a2)), "landmark")
    with pytest.raises(ValueError, match="landmark 'b' is in train and in test"):
        training_data(town, Fold((b2,), (b1,)), "landmark")


def whole(name):
    """Toytown, or a benchmark without its photos."""
    if name == "toytown":
        return load_dataset(name)
    images, queries = read_pickled(TRUTH / f"gnd_{name}.pkl", name)
    places = {image: Path(image) for image in [*images, *(q.image for q in queries)]}
    database = {image: places[image] for image in images}
    return RetrievalDataset(name, Path(), database, tuple(queries), places)


@pytest.mark.parametrize("by", SPLIT_PROTOCOLS)
@pytest.mark.parametrize(
    "name", ["toytown", *(pytest.param(one, marks=needs_truth) for one in BENCHMARKS)]
)
def test_nothing_crosses_ten_folds(name, by):
    dataset = whole(name)
    parts = folds(dataset.queries, by, validation=0.1)
    assert len(parts) == 10
    for fold in parts:
        part = training_data(dataset, fold, by)
        assert len(part.queries) >= 0.6 * len(fold.train)
        learnt = {*part.images, *part.query_images}
        learnt |= set().union(*(q.positives | q.junk | {q.image} for q in part.queries))
        for held_out in (*fold.test, *fold.validation):
            assert held_out.image not in learnt
            if by == "landmark":
                assert not learnt & (held_out.positives | held_out.junk)
                assert held_out.landmark not in part.landmarks
