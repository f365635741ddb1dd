"""One factor at a time, on a town of posters and on drawn pictures."""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from indiret.checkpoints import save_network
from indiret.evaluation import NO_MATCH
from indiret.experiments import robustness
from indiret.experiments.robustness import FACTORS, Changed, moved_partners, run_robustness
from indiret.network import build_network
from tests.experiments import SMALL, damages, lose_photo, record_calls
from tests.tiny_town import make_tiny_town
from tools.store_results import store_results

SIZE = (90, 120)
EVERYWHERE = np.ones(SIZE, bool)


def dotted(x, y):
    """A black picture with a white blot around pixel (x, y)."""
    rows, columns = np.indices(SIZE)
    blot = (np.hypot(columns - x, rows - y) < 6) * 255
    return np.repeat(blot[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("place", [(75, 30), (40, 60)])
@pytest.mark.parametrize("factor", ["scale", "rotation", "viewpoint"])
def test_the_matrix_says_where_a_pixel_went(factor, place):
    ground = np.zeros((*SIZE, 3), np.uint8)
    for strength in FACTORS[factor].strengths[1:]:
        changed = FACTORS[factor].change(dotted(*place), strength, ground, EVERYWHERE)
        assert changed.picture.shape == (*SIZE, 3)
        weight = changed.picture[..., 0].astype(float)
        rows, columns = np.indices(SIZE) + 0.5
        found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        x, y, w = changed.matrix @ [place[0] + 0.5, place[1] + 0.5, 1]
        np.testing.assert_allclose(found, [x / w, y / w], atol=0.8)
        assert changed.hidden.any()  # the ground shows


@pytest.mark.parametrize("factor", FACTORS)
def test_the_first_strength_changes_nothing(factor):
    random = np.random.default_rng(0)
    picture, ground = random.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    changed = FACTORS[factor].change(picture, FACTORS[factor].strengths[0], ground, EVERYWHERE)
    np.testing.assert_array_equal(changed.picture, picture)
    np.testing.assert_array_equal(changed.matrix, np.eye(3))
    assert not changed.hidden.any()


def test_rotation_is_anticlockwise_and_exact_at_a_right_angle():
    coarse = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((120, 120), Image.Resampling.BICUBIC))
    turned = robustness.rotate(picture, 90, np.zeros_like(picture), np.ones((120, 120), bool))
    assert np.abs(turned.picture.astype(int) - np.rot90(picture)).mean() < 2


def test_darkness_halves_the_light():
    picture = np.full((*SIZE, 3), 200, np.uint8)
    changed = robustness.darken(picture, 2, picture, EVERYWHERE)
    light = (changed.picture[0, 0, 0] / 255) ** 2.2 / (200 / 255) ** 2.2
    assert light == pytest.approx(1 / 4, rel=0.02)


def test_occlusion_covers_the_share_of_the_region():
    region = np.zeros(SIZE, bool)
    region[20:60, 30:110] = True
    white, black = np.full((*SIZE, 3), 255, np.uint8), np.zeros((*SIZE, 3), np.uint8)
    for share in FACTORS["occlusion"].strengths[1:]:
        changed = robustness.occlude(white, share, black, region)
        assert (changed.picture[region] == 0).mean() == pytest.approx(share, abs=0.02)
        np.testing.assert_array_equal(changed.hidden, changed.picture[..., 0] == 0)


def test_partners_follow_the_matrix_and_end_where_something_covers():
    matrix = np.array([[1, 0, 20], [0, 1, 0], [0, 0, 1.0]])  # 20 pixels to the right
    hidden = np.zeros((40, 60), bool)
    hidden[20:, :30] = True
    changed = Changed(np.zeros((40, 60, 3), np.uint8), matrix, hidden)
    partners = moved_partners(changed, (0, 0, 60, 40), (2, 3), (2, 3))
    assert partners[0].tolist() == [[0, 1], [0, 2], [NO_MATCH] * 2]  # the last moves outside
    assert partners[1].tolist() == [[1, 1], [1, 2], [NO_MATCH] * 2]
    hidden[20:, :31] = True  # the centre of the first one's new place
    assert moved_partners(changed, (0, 0, 60, 40), (2, 3), (2, 3))[1, 0].tolist() == [-1, -1]


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return make_tiny_town(tmp_path_factory.mktemp("robust") / "town", "t", landmarks=3)


METHODS = ("colour-histogram", "mutual-nn")


@pytest.fixture(scope="module")
def finished(town, tmp_path_factory):
    out = tmp_path_factory.mktemp("robustness")
    return out, run_robustness(out, town, METHODS, others=3)


def test_every_method_has_a_curve_for_every_factor(finished, tmp_path):
    out, results = finished
    store_results(out, tmp_path)
    for folder in (out, tmp_path):
        assert json.loads((folder / "results.json").read_text()) == results
    assert results["curves"].keys() == FACTORS.keys()
    for factor, curves in results["curves"].items():
        assert curves.keys() == set(METHODS)
        for curve in curves.values():
            for points in curve.values():
                assert len(points) == len(FACTORS[factor].strengths)
                assert all(0 <= low <= mean <= high <= 1 for mean, low, high in points)
        assert "patch_match" not in curves["colour-histogram"]
    unchanged = {
        tuple(curves["mutual-nn"]["patch_match"][0]) for curves in results["curves"].values()
    }
    assert len(unchanged) == 1  # nothing is changed at the first strength
    mutual = results["curves"]["occlusion"]["mutual-nn"]
    assert mutual["reciprocal_rank"][0][0] >= mutual["reciprocal_rank"][-1][0]


def test_a_killed_run_goes_on(finished, town, monkeypatch):
    out, results = finished
    (out / f"{town.queries[1].name}.jsonl").unlink()
    measured = record_calls(monkeypatch, robustness, "_measure")
    assert run_robustness(out, town, METHODS, others=3) == results
    assert [query for query, *_ in measured] == [town.queries[1]]
    with pytest.raises(ValueError, match=r"another robustness: .*namely others"):
        run_robustness(out, town, METHODS, others=2)
    junk = replace(town, queries=(replace(town.queries[0], junk={"x"}), *town.queries[1:]))
    with pytest.raises(ValueError, match="namely ground truth"):
        run_robustness(out, junk, METHODS, others=3)


def test_weights_in_a_file_with_a_comma_in_its_name_are_told_apart(town, tmp_path):
    methods = ["thumbnail", str(tmp_path / "mine, second.safetensors")]
    for seed in range(2):
        torch.manual_seed(seed)
        save_network(build_network(SMALL), methods[1])
        other = pytest.raises(ValueError, match="namely weights") if seed else nullcontext()
        with other:
            few = replace(town, queries=town.queries[:1])
            run_robustness(tmp_path / "out", few, methods, others=2)


def test_a_folder_is_not_taken_by_what_is_refused(town, tmp_path):
    bare = make_tiny_town(tmp_path / "none", "n", distractors=0)
    for dataset, methods, queries, sentence in (
        (bare, METHODS, 1, "other than its landmarks"),
        (town, METHODS, 0, "queries=0 of each"),
        (town, ["sfit"], 1, "'sfit' is not known"),
    ):
        with pytest.raises(ValueError, match=sentence):
            run_robustness(tmp_path / "out", dataset, methods, queries)
        assert not (tmp_path / "out").exists()


def test_what_is_broken_is_made_again(finished, town):
    out, results = finished
    for name in (f"{town.queries[0].name}.jsonl", "robustness.json", "results.json"):
        for _ in damages(out / name):
            assert run_robustness(out, town, METHODS, others=3) == results


def test_a_photo_that_is_gone_is_skipped_by_name(finished, town, tmp_path, monkeypatch):
    query = town.queries[1]
    lose_photo(monkeypatch, query.image)
    results = run_robustness(tmp_path, town, METHODS[:1], others=3)
    assert results["skipped"] == {query.name: f"There is no file {query.image}.jpg."}
    assert results["curves"].keys() == finished[1]["curves"].keys()


def test_what_the_book_reports_is_whole():
    results = robustness.stored_robustness()
    assert results["curves"].keys() == FACTORS.keys()
    assert not results["provenance"]["commit"].endswith("dirty")
