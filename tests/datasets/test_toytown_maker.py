"""The maker of Toytown: all of it but the rendering, whose results are frozen and checked."""

import hashlib

import numpy as np
import pytest
from PIL import Image

cv2 = pytest.importorskip("cv2")

from tools.toytown import card, layout, make  # noqa: E402
from tools.toytown.buildings import FORMS, Spec, make_building, twin_spec  # noqa: E402
from tools.toytown.camera import aim, project  # noqa: E402
from tools.toytown.scenes import draw_view, frame_share  # noqa: E402


@pytest.mark.parametrize("form", FORMS)
def test_buildings_are_deterministic_and_well_formed(form):
    spec = Spec(form, "honey", "brick", 1.0, 11)
    one, again = make_building(spec), make_building(spec)
    assert np.array_equal(one.vertices, again.vertices)
    assert np.array_equal(one.bitmap, again.bitmap) and 0 < one.bitmap.min() < one.bitmap.max()
    assert np.isfinite(one.vertices).all() and one.faces.max() < len(one.vertices)
    assert one.uv.min() >= 0 and one.uv.max() <= 1
    twin = twin_spec(spec, np.random.default_rng(0))
    assert (twin.form, twin.palette, twin.size) == (spec.form, spec.palette, spec.size)
    assert twin.wall != spec.wall and twin.seed != spec.seed


def test_aim_and_rays_are_inverse_to_projection():
    camera = aim([5, -40, 3], [1, 2, 8], (250, 40), 280, 320, 214, roll=0.05)
    assert np.allclose(project(camera.matrix(), np.array([[1, 2, 8.0]]))[0], [[250, 40]], atol=1e-6)
    pixels = np.array([[0.5, 0.5], [200.5, 17.5], [319.5, 213.5]])
    points = camera.position + 31 * camera.rays(pixels)
    assert np.allclose(camera.project(points)[0], pixels)
    assert np.isclose(np.linalg.det(camera.to_world()[:3, :3]), 1)


def test_quantised_positions_come_back_within_two_centimetres():
    rng = np.random.default_rng(0)
    low, high = np.array([-30.0, -10, 0]), np.array([30.0, 30, 40])
    points = rng.uniform(low, high, (24, 32, 3))
    points[3, 4] = np.nan
    codes = layout.quantise(points, low, high)
    assert codes.dtype == np.uint16 and (codes[3, 4] == 65535).all()
    back = low + codes / 65534 * (high - low)
    seen = ~np.isnan(points).any(-1)
    assert np.abs(back - points)[seen].max() < 0.02
    assert (codes[seen] != 65535).all()


def test_mask_box_leaves_out_strays():
    mask = np.zeros((100, 200), bool)
    mask[20:80, 50:150] = True
    mask[0, 0] = True
    assert np.allclose(layout.mask_box(mask), (50, 20, 150, 80), atol=1.5)
    with pytest.raises(ValueError, match="mask is empty"):
        layout.mask_box(np.zeros((4, 4), bool))


def test_groundtruth_writer(tmp_path):
    kinds = [layout.visible_class(fraction) for fraction in (1.0, 0.6, 0.59, 0.25, 0.249)]
    assert kinds == ["good", "good", "ok", "ok", "junk"]
    queries = [("mill_gate_000001", (1, 2.25, 30, 40)), ("mill_gate_000002", (5, 6, 70, 80))]
    classes = {"mill_gate_000001": "good", "mill_gate_000002": "good", "mill_gate_000003": "ok"}
    layout.write_groundtruth(tmp_path, "mill_gate", queries, classes)
    texts = {path.stem.removeprefix("mill_gate_"): path.read_text() for path in tmp_path.iterdir()}
    assert len(texts) == 8  # nothing temporary is left
    assert texts["1_query"] == "mill_gate_000001 1.0 2.2 30.0 40.0\n"
    assert texts["2_good"].split() == ["mill_gate_000001", "mill_gate_000002"]
    assert texts["2_ok"] == "mill_gate_000003\n" and texts["1_junk"] == ""


def test_masks_are_one_bit(tmp_path):
    mask = np.random.default_rng(0).random((30, 41)) < 0.5
    (tmp_path / "m.png").write_bytes(make.png_mask(mask))
    picture = Image.open(tmp_path / "m.png")
    assert picture.mode == "1" and np.array_equal(np.asarray(picture), mask)


def test_verify_names_what_changed(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    with pytest.raises(FileNotFoundError, match="freeze"):
        card.verify(tmp_path)
    codes = {path.name: hashlib.sha256(path.read_bytes()) for path in card.files(tmp_path)}
    lines = [f"{code.hexdigest()}  {name}\n" for name, code in codes.items()]
    (tmp_path / "MANIFEST.sha256").write_text("".join(lines))
    assert card.verify(tmp_path) == []
    (tmp_path / "a.txt").write_text("other")
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c.txt").write_text("new")
    assert [line.split()[0] for line in card.verify(tmp_path)] == ["b.txt", "c.txt", "a.txt"]


def test_views_hold_the_landmark_in_the_frame():
    building = make_building(Spec("hall", "grey", "ashlar", 1.0, 3))
    for seed in range(3):
        view = draw_view(np.random.default_rng(seed), building.vertices, [6.0] * 10, "query")
        area, inside = frame_share(view.camera, building.vertices)
        assert inside > 0.7 and 0.1 < area < 1.2
        again = draw_view(np.random.default_rng(seed), building.vertices, [6.0] * 10, "query")
        assert np.array_equal(view.camera.matrix(), again.camera.matrix())
