"""`indiret.evaluation.intervals`: intervals against a loop, and Platt's minimum."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from indiret.evaluation.intervals import fit_calibration, nested_bootstrap, sign_flip_test


def slow_bootstrap(values, draws):
    random = np.random.default_rng(5)
    landmarks = sorted({landmark for landmark, _, _ in values})
    seeds = sorted({one for _, _, one in values})
    means = []
    for _ in range(draws):
        drawn, used = [], random.choice(seeds, len(seeds))
        for landmark in random.choice(landmarks, len(landmarks)):
            own = sorted({name for where, name, _ in values if where == landmark})
            for name in random.choice(own, len(own)):
                drawn += [values[landmark, name, one] for one in used]
        means.append(np.mean(drawn))
    return np.quantile(means, (0.025, 0.975))


def test_bootstrap_equals_the_loop():
    random = np.random.default_rng(1)
    values = {}
    for landmark, number in zip("abcdef", (5, 5, 3, 1, 5, 2), strict=True):
        level = random.random()
        for name in range(number):
            for one in range(3):
                values[landmark, f"{landmark}{name}", one] = level + 0.1 * one + random.normal() / 9
    interval = nested_bootstrap(values)
    assert interval.mean == pytest.approx(np.mean(list(values.values())))
    np.testing.assert_allclose(interval[1:], slow_bootstrap(values, 3000), atol=0.02)
    seeds_only = {key: float(key[2]) for key in values}  # does not average out over queries
    assert nested_bootstrap(seeds_only)[1:] == pytest.approx((0, 2))


def test_paired_bootstrap_takes_what_is_common_away():
    random = np.random.default_rng(0)
    base = {(m, f"{m}{i}", s): random.random() for m in "abcde" for i in range(5) for s in (0, 1)}
    better = {key: value + 0.1 for key, value in base.items()}
    assert nested_bootstrap(better, base) == pytest.approx((0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match=r"same .* keys"):
        nested_bootstrap(better, {("a", "a0", 0): 0.5})


def test_bootstrap_follows_the_seed_and_names_bad_values():
    values = {(m, f"{m}{i}", 0): float(i) for m in "abc" for i in range(5)}
    assert nested_bootstrap(values) == nested_bootstrap(values)
    assert nested_bootstrap(values) != nested_bootstrap(values, seed=1)
    for bad, words in (
        ({}, "no values"),
        ({**values, ("a", "a0", 1): 0.5}, r"each of the seeds \[0, 1\]"),
        ({("a", "a0", 0): float("nan")}, "not finite"),
    ):
        with pytest.raises(ValueError, match=words):
            nested_bootstrap(bad)


def test_calibration_finds_the_curve_the_labels_came_from():
    random = np.random.default_rng(0)
    margins = random.normal(3, 4, 20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-(0.8 * margins - 2)))
    assert fit_calibration(margins, labels) == pytest.approx((0.8, -2), abs=0.1)


@settings(deadline=None)
@given(
    arrays(np.float64, 12, elements=st.floats(-1e3, 1e3)),
    st.lists(st.booleans(), min_size=12, max_size=12).filter(lambda x: 0 < sum(x) < 12),
)
def test_calibration_is_at_the_minimum_of_platts_loss(margins, labels):
    margins, labels = np.round(margins, 3), np.array(labels)
    a, b = fit_calibration(margins, labels)
    positives = labels.sum()
    soft = np.where(labels, (positives + 1) / (positives + 2), 1 / (12 - positives + 2))
    chance = 1 / (1 + np.exp(-np.clip(a * margins + b, -500, 500)))
    assert np.isfinite([a, b]).all()
    assert (chance - soft).sum() == pytest.approx(0, abs=1e-4)
    spread = margins.std() or 1
    slope = ((chance - soft) * (margins - margins.mean()) / spread).sum()
    assert slope == pytest.approx(0, abs=1e-4)


def test_a_weight_is_a_repeated_pair():
    margins, labels = np.array([-2.0, 0.5, 1.0, 3.0, 0.2]), np.array([0, 1, 0, 1, 0])
    counts = np.array([3, 1, 2, 1, 4])
    repeated = np.repeat(margins, counts), np.repeat(labels, counts)
    # softened targets count pairs, not their weights, so they agree but for those
    weighted = fit_calibration(np.tile(margins, 500), np.tile(labels, 500), np.tile(counts, 500))
    assert weighted == pytest.approx(
        fit_calibration(*(np.tile(v, 500) for v in repeated)), rel=0.02
    )
    with pytest.raises(ValueError, match="one positive weight a margin; got 5 for 5"):
        fit_calibration(margins, labels, counts - 1)


def test_bad_values():
    for margins, labels, words in (
        ([1.0, 2.0], [1, 1], "one kind is missing"),
        ([1.0, np.inf], [0, 1], "finite margin"),
        ([1.0], [0, 1], "got 1 and 2"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_calibration(margins, labels)
    for values in ([], [np.nan], [1.0] * 21):
        with pytest.raises(ValueError, match="1 to 20 finite"):
            sign_flip_test(values)


@pytest.mark.parametrize("size", [1, 4, 9])
def test_sign_flips_equal_the_loop(size):
    differences = np.random.default_rng(size).normal(0.3, 1, size)
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=size)
    ]
    wanted = np.mean([one >= abs(differences.sum()) - 1e-12 for one in sums])
    assert sign_flip_test(differences) == pytest.approx(wanted)
    assert sign_flip_test([0.2] * size) == 2 / 2**size and sign_flip_test([0.0] * size) == 1
