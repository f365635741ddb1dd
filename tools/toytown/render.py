"""Path tracing with mitsuba: picture, visible landmark, surface positions.

``llvm_ad_rgb`` is used where an LLVM of version 16 or later is found (set
``DRJIT_LIBLLVM_PATH``), else ``scalar_rgb``, about twice as slow, with a printed line.
Sixteen samples a pixel or fewer are enough because only the *light* is smoothed:
radiance is divided by the noise-free albedo, filtered where normals and depths agree,
and multiplied back, so that stone keeps its edges.
"""

from __future__ import annotations

import functools
import glob
import os
import re

import cv2
import numpy as np

from .scenes import SWATCHES
from .textures import ground as ground_tile
from .textures import smooth_noise

SAMPLES = {"test": 8, "validation": 8, "train": 6}  # rays a pixel


@functools.cache
def mitsuba():
    """Import mitsuba in the fastest variant that starts here, on one thread."""
    if "DRJIT_LIBLLVM_PATH" not in os.environ:
        # (never a recursive glob here: /usr/lib has symlink loops and takes many minutes)
        places = ("/usr/lib/llvm-*/lib/libLLVM*.so*", "/usr/lib/*-linux-gnu/libLLVM*.so*")
        numbered = [
            (int(version[1]), path)
            for place in places
            for path in glob.glob(place)
            if (version := re.search(r"libLLVM\D*(\d+)", path))
        ]
        found = [path for number, path in sorted(numbered) if number >= 16]
        if found:
            os.environ["DRJIT_LIBLLVM_PATH"] = found[-1]
    import mitsuba as mi

    try:
        mi.set_variant("llvm_ad_rgb")
        import drjit as dr

        dr.set_thread_count(1)
    except ImportError:
        print(
            "toytown: no LLVM 16 or later was found, rendering with scalar_rgb (half as fast)",
            flush=True,
        )
        mi.set_variant("scalar_rgb")
    return mi


def to_mesh(vertices, faces, uv, bsdf):
    """A mitsuba mesh from arrays."""
    mi = mitsuba()
    props = mi.Properties()
    props["bsdf"] = bsdf
    mesh = mi.Mesh("m", len(vertices), len(faces), has_vertex_texcoords=True, props=props)
    params = mi.traverse(mesh)
    params["vertex_positions"] = np.ascontiguousarray(vertices, np.float32).ravel()
    params["faces"] = np.ascontiguousarray(faces, np.uint32).ravel()
    params["vertex_texcoords"] = np.ascontiguousarray(uv, np.float32).ravel()
    params.update()
    return mesh


def to_bsdf(picture, nearest=False):
    """A two-sided diffuse surface painted with an sRGB picture in [0, 1]."""
    mi = mitsuba()
    bitmap = mi.Bitmap((picture * 255 + 0.5).astype(np.uint8))
    texture = {
        "type": "bitmap",
        "bitmap": bitmap,
        "filter_type": "nearest" if nearest else "bilinear",
    }
    return mi.load_dict({"type": "twosided", "nested": {"type": "diffuse", "reflectance": texture}})


class Town:
    """A split's neighbours, grounds and skies, made when first asked for."""

    def __init__(self, buildings):
        self.buildings = buildings
        self.half_widths = [float(np.abs(b.vertices[:, 0]).max()) for b in buildings]
        self._surface, self._ground = {}, {}
        self.swatches = to_bsdf(SWATCHES[None].repeat(2, 0), nearest=True)

    def neighbour(self, index, x, y, angle):
        b = self.buildings[index]
        if index not in self._surface:
            self._surface[index] = to_bsdf(b.bitmap)
        c, s = np.cos(angle), np.sin(angle)
        v = b.vertices @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
        return to_mesh(v + np.array([x, y, 0], np.float32), b.faces, b.uv, self._surface[index])

    def ground(self, kind):
        if kind not in self._ground:
            self._ground[kind] = to_bsdf(
                ground_tile(np.random.default_rng([5, len(kind)]), kind).clip(0, 1)
            )
        v = np.array([[-330, -330, 0], [330, -330, 0], [330, 330, 0], [-330, 330, 0]], np.float32)
        return to_mesh(v, np.array([[0, 1, 2], [0, 2, 3]]), v[:, :2] / 12.0, self._ground[kind])


@functools.lru_cache(64)
def _clear_sky(elevation, turbidity):
    """Mitsuba's sunsky without its sun, as (32, 64, 3) radiance; sun at azimuth 0 (-y)."""
    mi = mitsuba()
    sun = [0.0, -float(np.cos(elevation)), float(np.sin(elevation))]
    sky = mi.load_dict(
        {"type": "sunsky", "sun_direction": sun, "turbidity": turbidity, "sun_scale": 0.0}
    )
    directions = _directions(32, 64).reshape(-1, 3)
    directions[:, 2] = np.maximum(directions[:, 2], 0.01)
    si = mi.SurfaceInteraction3f if mi.variant().startswith("llvm") else None
    if si is not None:
        hit = mi.SurfaceInteraction3f()
        hit.wi = -mi.Vector3f(*directions.T)
        radiance = np.array(sky.eval(hit)).reshape(3, -1).T
    else:
        radiance = np.empty_like(directions)
        for k, d in enumerate(directions):
            hit = mi.SurfaceInteraction3f()
            hit.wi = mi.Vector3f(*(-d))
            radiance[k] = np.array(sky.eval(hit))
    return radiance.reshape(32, 64, 3).astype(np.float32)


def _directions(rows, cols):
    """World directions (z up) of an environment map's texels, mitsuba's convention."""
    v, u = np.meshgrid(
        (np.arange(rows) + 0.5) / rows * np.pi,
        (np.arange(cols) + 0.5) / cols * 2 * np.pi,
        indexing="ij",
    )
    return np.stack([np.sin(u) * np.sin(v), np.cos(u) * np.sin(v), np.cos(v)], -1)


def emitters(view):
    """Sky with clouds as an environment map, and the sun as a directional light."""
    mi = mitsuba()
    azimuth, elevation, turbidity, ratio = view.sun
    rng = np.random.default_rng(view.clouds)
    sky = _clear_sky(elevation, turbidity)
    sky = cv2.resize(sky, (256, 128), interpolation=cv2.INTER_LINEAR)
    # the clear sky is baked for a sun over -y; u grows from +y towards +x
    sky = np.roll(sky, -round(azimuth / (2 * np.pi) * 256), axis=1)
    half = (
        smooth_noise(rng, 128, 128, 26)
        + 0.6 * smooth_noise(rng, 128, 128, 11)
        + 0.3 * smooth_noise(rng, 128, 128, 5)
    )
    clouds = np.hstack([half, half[:, ::-1]])  # mirrored, so that the map has no seam
    cover = (
        1 / (1 + np.exp(-5 * (clouds - rng.uniform(-0.1, 0.9))))
        if ratio > 0.1
        else 0.85 + 0.15 * clouds.clip(-1, 1)
    )
    mean = sky[:64].mean()
    sky = sky * (1 - cover[..., None]) + cover[..., None] * mean * np.array(
        [1.45, 1.45, 1.48], np.float32
    ) * (1 + 0.25 * clouds[..., None]).clip(0.6, 1.3)
    sky = sky / sky[:64].mean()
    zenith = _directions(128, 256)[..., 2].clip(0)
    weight = np.sin((np.arange(128) + 0.5) / 128 * np.pi)[:, None]
    horizontal = float((sky.mean(-1) * zenith * weight).sum() * (np.pi / 128) * (2 * np.pi / 256))
    warm = np.exp(-np.array([0.06, 0.13, 0.27]) / np.sin(elevation))
    irradiance = ratio * horizontal * warm / warm.mean()
    direction = [
        -np.sin(azimuth) * np.cos(elevation),
        np.cos(azimuth) * np.cos(elevation),
        -np.sin(elevation),
    ]
    turn = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
    return {
        "sky": {"type": "envmap", "bitmap": mi.Bitmap(sky.astype(np.float32)), "to_world": turn},
        "sun": {
            "type": "directional",
            "direction": [float(d) for d in direction],
            "irradiance": {"type": "rgb", "value": [float(v) for v in irradiance]},
        },
    }


def load_scene(town, view, landmark):
    """Build the mitsuba scene; ``landmark`` is a mesh or None."""
    mi = mitsuba()
    v, f, swatch = view.props
    uv = np.column_stack([(swatch + 0.5) / len(SWATCHES), np.full(len(v), 0.5)])
    scene = {
        "type": "scene",
        **emitters(view),
        "props": to_mesh(v, f, uv, town.swatches),
        "ground": town.ground(view.ground),
    }
    for k, place in enumerate(view.neighbours):
        scene[f"neighbour{k}"] = town.neighbour(*place)
    if landmark is not None:
        scene["landmark"] = landmark
    return mi.load_dict(scene)


def trace(scene, origin, directions, mesh):
    """First hits of rays from one point: distances (inf = sky) and whether on ``mesh``."""
    mi = mitsuba()
    if mi.variant().startswith("llvm"):
        ray = mi.Ray3f(
            mi.Point3f(*[float(c) for c in origin]),
            mi.Vector3f(*np.asarray(directions, np.float32).T),
        )
        hit = scene.ray_intersect_preliminary(ray)
        return np.array(hit.t), np.array(hit.is_valid() & (hit.shape == mi.ShapePtr(mesh))).astype(
            bool
        )
    distance, on = np.empty(len(directions)), np.zeros(len(directions), bool)
    for k, d in enumerate(directions):
        hit = scene.ray_intersect_preliminary(mi.Ray3f(mi.Point3f(*origin), mi.Vector3f(*d)))
        distance[k] = hit.t
        on[k] = hit.is_valid() and hit.shape == mesh
    return distance, on


def grid(x0, x1, y0, y1, step=1.0):
    """Centres of a grid of squares, row by row, as (n, 2) pixels, with its shape."""
    y, x = np.mgrid[y0:y1:step, x0:x1:step] + step / 2
    return np.column_stack([x.ravel(), y.ravel()]), y.shape


def whole_area(alone, camera, mesh):
    """Pixels of the landmark standing alone in a frame three times as wide and high."""
    w, h = camera.width, camera.height
    wide, _ = grid(-w, 2 * w, -h, 2 * h, 3)
    _, whole = trace(alone, camera.position, camera.rays(wide), mesh)
    return max(1, int(whole.sum()) * 9)


def visible_mask(scene, camera, mesh, step=1):
    """Where the landmark is seen, sampled at the centres of ``step`` x ``step`` pixels.

    Its visible fraction is ``mask.sum() * step**2 / whole_area(...)``.
    """
    pixels, shape = grid(0, camera.width, 0, camera.height, step)
    return trace(scene, camera.position, camera.rays(pixels), mesh)[1].reshape(shape)


def surface_positions(scene, camera, mesh, cell=10):
    """Landmark-local points seen at coarse cells' centres: (rows, cols, 3), NaN elsewhere."""
    pixels, shape = grid(
        0,
        int(np.ceil(camera.width / cell)) * cell,
        0,
        int(np.ceil(camera.height / cell)) * cell,
        cell,
    )
    directions = camera.rays(pixels)
    distance, on = trace(scene, camera.position, directions, mesh)
    on &= (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
    points = camera.position + np.where(np.isfinite(distance), distance, 0)[:, None] * directions
    points[~on] = np.nan
    return points.reshape(*shape, 3)


def smooth_light(light, normal, depth, passes=3):
    """Edge-stopping smoothing of irradiance on a widening 3 x 3 stencil."""
    light = np.log1p(np.maximum(light, 0))
    stacked = np.concatenate([light, normal, np.log(depth)[..., None] * 6], -1).astype(np.float32)
    for level in range(passes):
        reach = 2**level
        padded = np.pad(stacked, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        total, weights = np.zeros_like(light), np.zeros(light.shape[:2], np.float32)
        h, w = light.shape[:2]
        for dy in (0, reach, 2 * reach):
            for dx in (0, reach, 2 * reach):
                other = padded[dy : dy + h, dx : dx + w]
                step = other - stacked
                gap = np.einsum("ijk,ijk->ij", step[..., 3:], step[..., 3:]) * 9
                tone = np.einsum("ijk,ijk->ij", step[..., :3], step[..., :3]) * (3.0 * 2**level)
                weight = np.exp(-gap - tone) * (1.0 if dx == dy == reach else 0.7)
                total += weight[..., None] * other[..., :3]
                weights += weight
        stacked[..., :3] = total / weights[..., None]
    return np.expm1(stacked[..., :3])


def shoot(scene, view, seed, samples=8):
    """Render and develop one picture: uint8 (height, width, 3)."""
    mi = mitsuba()
    camera = view.camera
    sensor = mi.load_dict(
        {
            "type": "perspective",
            "fov": float(np.degrees(2 * np.arctan(camera.width / 2 / camera.focal))),
            "fov_axis": "x",
            "to_world": mi.ScalarTransform4f(camera.to_world()),
            "near_clip": 0.05,
            "far_clip": 2000.0,
            "sampler": {"type": "independent", "sample_count": samples},
            "film": {
                "type": "hdrfilm",
                "width": camera.width,
                "height": camera.height,
                "rfilter": {"type": "box"},
                "pixel_format": "rgb",
            },
        }
    )
    # One integrator for both is twice as slow; the same seed places the same samples.
    seed &= 0x7FFFFFFF
    path = mi.load_dict({"type": "path", "max_depth": 3})
    surface = mi.load_dict({"type": "aov", "aovs": "a:albedo,n:sh_normal,d:depth"})
    rgb = np.array(mi.render(scene, sensor=sensor, integrator=path, seed=seed))[..., :3]
    image = np.array(mi.render(scene, sensor=sensor, integrator=surface, seed=seed))[..., -7:]
    albedo, normal, depth = image[..., :3], image[..., 3:6], image[..., 6]
    solid = albedo.max(-1) > 0.004
    light = np.where(solid[..., None], rgb / np.maximum(albedo, 0.012), rgb)
    smooth = smooth_light(light, normal, np.maximum(depth, 0.5))
    rgb = np.where(solid[..., None], smooth * albedo, rgb)
    haze = (1 - np.exp(-np.maximum(depth - 60, 0) / 420 - depth * view.fog))[..., None]
    sky = np.percentile(rgb.reshape(-1, 3), 85, axis=0)
    rgb = np.where(solid[..., None], rgb * (1 - haze) + haze * sky, rgb)
    if view.blur > 0.2:
        rgb = cv2.GaussianBlur(rgb, (0, 0), view.blur)
    return develop(rgb, view.exposure, view.balance)


def develop(rgb, exposure, balance):
    """Expose for the middle tones, balance, roll off the lights, encode as sRGB."""
    key = np.exp(np.log(rgb.mean(-1) + 1e-3).mean())
    x = rgb * (0.30 / key) * 2.0**exposure * np.array([balance[0], 1.0, balance[1]])
    x = 1 - np.exp(-1.25 * np.maximum(x, 0))
    x = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(np.maximum(x, 1e-6), 1 / 2.4) - 0.055)
    return (x.clip(0, 1) * 255 + 0.5).astype(np.uint8)
