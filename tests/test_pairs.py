"""`indiret.pairs`: which pairs are drawn, and that their labels are true."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from indiret.datasets import load_dataset
from indiret.network import build_network
from indiret.pairs import BatchSampler, symmetries
from tests.test_training import RECIPE, SMALL
from tests.tiny_town import make_tiny_town


def sampler_of(town, **changes):
    return BatchSampler(town, build_network(SMALL), replace(RECIPE, **changes))


def equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def as_bytes(features):
    return b"".join(values.numpy().tobytes() for values in features.values())


def test_batches_are_a_function_of_seed_and_step(towns):
    sampler, again = sampler_of(towns[0]), sampler_of(towns[0])
    one, two = sampler.batch(7), again.batch(7)
    assert equal(one.target, two.target) and equal(one.query, two.query)
    assert torch.equal(one.labels, two.labels)
    assert not equal(one.query, sampler.batch(8).query)
    assert not equal(one.query, sampler_of(towns[0], seed=1).batch(7).query)
    name = sampler.landmarks[0][0]
    assert equal(sampler._view(name, 1), again._view(name, 1))
    assert not equal(sampler._view(name, 1), sampler._view(name, 2))


def test_a_part_of_the_sampler_shows_only_that_part(towns):
    town = towns[0]
    known = tuple(query for query in town.queries if query.landmark in town.landmarks[:3])
    photos = set().union(*(query.positives for query in known))
    unnamed = sampler_of(town).distractors[0]
    images = {name: town.images[name] for name in (*sorted(photos), unnamed)}
    part = sampler_of(town).only(replace(town, queries=known, images=images))
    for step in range(10):
        part.batch(step)
    assert {name for name, _, _ in part.views} <= images.keys()
    assert len(part.landmarks) == 3 and part.distractors == [unnamed]


def test_labels_are_true(towns):
    """Without augmentation what is kept of a photo tells which one it was."""
    sampler = sampler_of(towns[0], augment=False, batch=20)
    owner = {
        as_bytes(sampler._view(name, 0, query=query)): (landmark, name)
        for landmark, views in enumerate(sampler.landmarks)
        for name in views
        for query in (False, True)
    }
    distractors = 0
    for step in range(5):
        target, query, labels = sampler.batch(step)
        for number, label in enumerate(labels):
            t, q = ({name: side[name][number] for name in side} for side in (target, query))
            own, query_name = owner[as_bytes(q)]
            other, target_name = owner.get(as_bytes(t), (None, None))
            distractors += other is None
            assert (own == other) == bool(label)
            assert query_name != target_name
        assert labels.sum() == 10
    assert 5 <= distractors <= 35


def test_symmetries_move_entries_and_keep_true_matches_true():
    """The diagonal i = k, j = l, where a photo matches itself, stays where it is."""
    tensor = torch.rand(1, 2, 3, 3, 3, 3)
    diagonal = torch.eye(9).view(1, 1, 3, 3, 3, 3)
    seen = set()
    for seed in range(200):
        turned = symmetries(tensor, np.random.default_rng(seed))
        torch.testing.assert_close(turned.flatten().sort()[0], tensor.flatten().sort()[0])
        seen.add(turned.numpy().tobytes())
        assert torch.equal(symmetries(diagonal, np.random.default_rng(seed)), diagonal)
        unequal = tensor[:, :, :2, :, :, :1]
        assert symmetries(unequal, np.random.default_rng(seed)).shape == unequal.shape
    assert len(seen) == 16


def test_junk_is_neither_answer_nor_distractor(tmp_path):
    town = make_tiny_town(tmp_path / "town", "a")
    junk = tmp_path / "town" / "groundtruth" / "a_0_1_junk.txt"
    junk.write_text("atown_000000\n")
    sampler = sampler_of(load_dataset("oxford5k", tmp_path / "town"))
    assert sampler.distractors == sorted(set(town.images) - set(sampler.boxes) - {"atown_000000"})


def test_what_cannot_be_paired_is_refused(towns, tmp_path):
    with pytest.raises(ValueError, match="aspect='squash'"):
        BatchSampler(towns[0], build_network(replace(SMALL, aspect="keep")), RECIPE)
    with pytest.raises(ValueError, match="at least 2"):
        sampler_of(make_tiny_town(tmp_path / "lonely", "c", landmarks=1))
