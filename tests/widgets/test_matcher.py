"""The plane vote in JavaScript beside Python's, in node and in a browser."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indiret.datasets import load_dataset
from indiret.images import read_image
from indiret.planes.features import detail
from indiret.planes.gradients import shrink
from indiret.retrieval import Retriever, build_retriever
from indiret.widgets.base import module_source
from indiret.widgets.matcher import pack_matcher, page_source, worker_source
from tests.shared_data import SHARED
from tests.widgets.pages import absent, page_of, watch

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        absent("node", "install it, in Debian with `apt-get install nodejs`.")
    return str(found)


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    return build_retriever("plane-net")


def rgba(picture: np.ndarray) -> bytes:
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]).tobytes()


def found_by_node(node: str, folder: Path, pictures, pairs, sizes=()) -> dict:
    """What ``match_pairs.mjs`` finds: verdicts of pairs of pictures, and the first one resized."""
    (folder / "constants").write_bytes(pack_matcher())
    job = {"pictures": [one.shape[:2] for one in pictures], "pairs": pairs, "sizes": sizes}
    (folder / "pairs.json").write_text(json.dumps(job))
    (folder / "pictures.rgba").write_bytes(b"".join(map(rgba, pictures)))
    subprocess.run([node, HERE / "match_pairs.mjs", folder], check=True)
    return json.loads((folder / "found.json").read_text())


def test_the_parts_pass_their_own_tests(node):
    done = subprocess.run(
        [node, "--test", *HERE.glob("*.test.mjs")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("project", ["tsconfig.json", "tsconfig.widgets.json"])
def test_types(project):
    """JSDoc's types agree, and nothing is declared for nothing; of the widgets less strictly."""
    compiler = ROOT / "node_modules" / ".bin" / "tsc"
    if not compiler.exists():
        absent("TypeScript", "install it with `npm install`.")
    command = [compiler, "-p", ROOT / project]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def town_pairs():
    """9 pairs of Toytown: queries with photos of the same and of another landmark."""
    town = load_dataset("toytown", split="validation")
    queries = town.queries[::4][:3]
    targets = [min(query.good - {query.image}) for query in queries]
    pictures = [town.read_query(one) for one in queries] + [town.read(name) for name in targets]
    return pictures, [(query, 3 + target) for query in range(3) for target in range(3)]


def real_pairs():
    """25 pairs of real photos: queries with references of the same and of another thing."""
    folder = SHARED / "smvs"
    if not folder.is_dir():
        pytest.skip(f"no real photos at {folder}")
    numbers = [("landmarks", 7), ("book_covers", 11), ("museum_paintings", 21)]
    numbers += [("landmarks", 31), ("book_covers", 45)]
    pictures = [
        read_image(folder / kind / side / f"{number:03}.jpg")
        for side in ("Query", "Reference")
        for kind, number in numbers
    ]
    return pictures, [(query, 5 + target) for query in range(5) for target in range(5)]


def odd_pairs():
    """Pictures as no camera makes them: stripes, much plain grey, and a small one, half smooth."""
    random = np.random.default_rng(0)
    shapes = [(400, 20), (20, 400), (120, 160)]
    pictures = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    pictures[2][:, 40:] = 128
    blobs = Image.fromarray(random.integers(0, 256, (18, 24, 3), dtype=np.uint8))
    pictures.append(np.asarray(blobs.resize((80, 60), Image.Resampling.BICUBIC)))
    assert 0.2 < detail(shrink(pictures[3], 80)) < 0.8
    return pictures, [(0, 0), (0, 1), (1, 2), (2, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("choose", [town_pairs, real_pairs, odd_pairs])
def test_the_same_numbers_as_python(choose, node, retriever, tmp_path):
    pictures, pairs = choose()
    found = found_by_node(node, tmp_path, pictures, pairs)["verdicts"]
    queries = {at: retriever.encode_query(pictures[at]) for at in {pair[0] for pair in pairs}}
    targets = {at: retriever.encode(pictures[at]) for at in {pair[1] for pair in pairs}}
    assert len(found) == len(pairs)
    for (one, other), verdict in zip(pairs, found, strict=True):
        query, target = queries[one], targets[other]
        match = retriever.match_both(query, target)
        for plane, same in zip((match.forward, match.backward), verdict["planes"], strict=True):
            place = (plane.level, plane.translation, plane.close)
            assert place == (same["level"], same["translation"], same["close"])
        assert verdict["background"] == pytest.approx(target.background_score, rel=1e-3)
        assert verdict["score"] == pytest.approx(match.score, rel=1e-3)
        structure = [retriever.structure(query), retriever.structure(target)]
        assert verdict["structure"] == pytest.approx(structure, abs=1e-9)
        if 1 in (*query.template.points.shape, *target.template.points.shape):
            continue  # a plane is fitted to a line of patches: how wide it is depends on rounding
        evidence = retriever.explain(query, target, "support")
        assert verdict["margin"] == pytest.approx(evidence.score, rel=1e-3, abs=1e-3)
        probability = retriever.probability(np.array([evidence.score]))[0]
        assert verdict["probability"] == pytest.approx(probability, abs=1e-3)
        maps = evidence.target_map, evidence.query_map, evidence.pairs
        for name, wanted in zip(("P", "Q", "values"), maps, strict=True):
            wanted = wanted.numpy().ravel()
            assert np.corrcoef(wanted, verdict[name])[0, 1] >= 0.999
            assert sum(verdict[name]) == pytest.approx(float(wanted.sum()), rel=1e-3)
        corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
        moved = retriever.move_by_votes(query, target, corners)
        np.testing.assert_allclose(verdict["frame"], moved, atol=5e-3)


def test_pictures_become_grey_and_small_as_in_pillow(node, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (83, 131, 3), dtype=np.uint8)
    sizes = [(40, 28), (131, 20), (17, 83), (260, 180), (16, 16)]
    found = found_by_node(node, tmp_path, [picture], [], sizes)["resized"]
    for size, values in zip(sizes, found, strict=True):
        wanted = Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(values, np.asarray(wanted).ravel())


PAGE = """<script type="module">
{shared}
{page}
const bytes = Uint8Array.from(atob("{constants}"), (c) => c.charCodeAt(0));
window.pool = createWorkerPool({worker}, matcherData(await unpack(bytes)), 2);
window.file = (text) => new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
window.nameOf = (error) => `${{error.name}}: ${{error.message}}`;
</script>"""


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A page on the disk with a pool of two workers, which had no trouble in the end."""
    html = PAGE.format(
        shared=module_source(),
        page=page_source(),
        constants=base64.b64encode(pack_matcher()).decode(),
        worker=json.dumps(worker_source()),
    )
    page = browser.new_page()
    page.set_default_timeout(120_000)
    troubles = watch(page, "file://")
    page.goto(page_of(html, tmp_path_factory.mktemp("page")))
    page.wait_for_function("Boolean(window.nameOf)")
    yield page
    page.close()
    assert not troubles, troubles


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_workers_of_a_page_on_the_disk_say_the_same_of_files(page, retriever):
    """Browsers decode JPEGs in their own way, so margins may differ by more than on pixels."""
    town = load_dataset("toytown", split="validation")
    query = town.queries[0]
    names = [query.image, min(query.good - {query.image}), min(town.queries[-1].good)]
    files = [encoded(town.path(name)) for name in names]
    height, width = town.read(query.image).shape[:2]
    x1, y1, x2, y2 = (round(side) for side in query.box)
    found = page.evaluate(
        """async ([files, box]) => {
          const [asking, ...targets] = files.map(file);
          const [query, ...encoded] = await Promise.all(
            [pool.read(asking, { query: true, box }), ...targets.map((one) => pool.read(one))]
              .map(async (one) => (await one).features));
          const { P, margin } = await pool.explain(query, encoded[0]);
          const sum = P.values.reduce((a, b) => a + b);
          return { hits: await pool.rank(query, encoded), margin, sum };
        }""",
        [files, [x1 / width, y1 / height, x2 / width, y2 / height]],
    )
    asked = retriever.encode_query(town.read(query.image)[y1:y2, x1:x2])
    scores = retriever.score(asked, [retriever.encode(town.read(name)) for name in names[1:]])
    assert [hit["index"] for hit in found["hits"]] == np.argsort(-scores).tolist() == [0, 1]
    for hit in found["hits"]:
        assert hit["score"] == pytest.approx(scores[hit["index"]], rel=0.01, abs=0.05)
    assert found["margin"] == found["hits"][0]["score"]
    assert found["sum"] > 0


def test_what_is_cancelled_or_no_picture_says_so(page):
    waiting, broken, query, moved, works = page.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(60, 40);
          canvas.getContext("2d"); // transparent, which is white
          const file = await canvas.convertToBlob();
          const { features: flat } = await pool.read(file, { query: true });
          const waiting = [pool.read(file), pool.read(file), pool.read(file),
            pool.rank(flat, [{ ...flat, background: 1.5 }])].map((one) => one.catch(nameOf));
          pool.cancel();
          const { features: later } = await pool.read(file);
          const gone = { ...later, codes: later.codes.slice() };
          structuredClone(gone.codes, { transfer: [gone.codes.buffer] });
          const explain = (target) => pool.explain(flat, target).catch(nameOf);
          return [await Promise.all(waiting), await pool.read(new Blob(["no"])).catch(nameOf),
            await explain(flat), await explain(gone), (await explain(later)).structure];
        }"""
    )
    assert waiting == 4 * ["AbortError: The matching was cancelled."]
    assert broken == "Error: is no photo that a browser can read."
    assert query.startswith("TypeError: The target was encoded as a query")
    assert moved.startswith("TypeError: Cannot perform") and works == [0, 0]
