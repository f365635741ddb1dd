"""The Oxford and Paris benchmarks at full size: real ground truth, stand-ins for the photos."""

import functools
import os
import pickle

import pytest
from PIL import Image

from indiret.datasets import downloads, load_dataset
from indiret.datasets.groundtruth import BENCHMARKS, read_pickled, read_query
from indiret.experiments.evaluator import evaluate
from tests.shared_data import TRUTH, needs_truth


def stand_ins(folder, names, size=(1024, 1024)):
    """One photo under many names, as hard links."""
    folder.mkdir(parents=True)
    Image.new("RGB", size).save(folder / f"{names[0]}.jpg")
    for name in names[1:]:
        os.link(folder / f"{names[0]}.jpg", folder / f"{name}.jpg")


def trusted(name):
    """A pickle of ours, read by Python's own reader: the slow twin."""
    return pickle.loads((TRUTH / f"gnd_{name}.pkl").read_bytes())


def small_truth(name="roxford5k"):
    """A ground truth of the right counts with made-up names, as the pickle holds it."""
    benchmark = BENCHMARKS[name]
    images = [f"town_{n:06d}" for n in range(benchmark.photos)]
    count = len(benchmark.landmarks)
    photos = [f"query_{n:06d}" for n in range(count)] if benchmark.revisited else images[:count]
    gnd = []
    for n in range(count):
        truth = {"bbx": [2.5, 3, 60, 40], "junk": [4 * n + 3]}
        own = {"easy": [4 * n], "hard": [4 * n + 1]} if benchmark.revisited else {"ok": [n, 4000]}
        gnd.append(truth | own)
    return {"imlist": images, "qimlist": photos, "gnd": gnd}


@pytest.fixture
def town(tmp_path):
    """A function that writes a pickle and a few of its photos, and gives the folder."""

    def write(data, name="roxford5k", photos=None):
        whole = small_truth()
        names = photos or [*whole["qimlist"], *whole["imlist"][:300]]
        stand_ins(tmp_path / "jpg", names, size=(80, 60))
        (tmp_path / f"gnd_{name}.pkl").write_bytes(pickle.dumps(data))
        return tmp_path

    return write


def test_what_a_revisited_pickle_means(town):
    folder = town(small_truth())
    data = load_dataset("roxford5k", folder)
    first, last = data.queries[0], data.queries[-1]
    assert data.revisited and len(data.queries) == 70 and len(data.images) == 300
    assert (first.name, first.landmark, first.image) == ("all_souls_1", "all_souls", "query_000000")
    assert (first.good, first.ok, first.junk) == ({"town_000000"}, {"town_000001"}, {"town_000003"})
    assert first.box == (2.5, 3.0, 60.0, 40.0)
    assert last.name == "radcliffe_camera_8" and last.good == {"town_000276"}
    assert not data.query_images.keys() & data.images.keys()
    assert data.read_query(first).shape == (37, 58, 3)
    assert len(data.skipped) == 4993 - 300
    (folder / "jpg" / "query_000002.jpg").unlink()
    data = load_dataset("roxford5k", folder)
    assert len(data.queries) == 69
    assert "query_000002 is absent" in dict(data.skipped)["all_souls_3"]
    assert "but not in" in dict(data.skipped)["query_000002"]


def test_what_an_original_pickle_means(town):
    folder = town(small_truth("paris6k"), "paris6k", [f"town_{n:06d}" for n in range(70)])
    Image.new("RGB", (80, 60)).save(folder / "jpg" / "paris_pantheon_000284.jpg")
    Image.new("RGB", (80, 60)).save(folder / "jpg" / "holiday.jpg")
    data = load_dataset("paris6k", folder)
    assert not data.revisited and len(data.queries) == 55 and len(data.images) == 70
    query = data.queries[5]
    assert query.landmark == "eiffel" and query.good == {query.image} and not query.ok
    reasons = dict(data.skipped)
    assert reasons["paris_pantheon_000284"] == "corrupt in the published archive"
    assert "not named in" in reasons["holiday"] and "but not in" in reasons["town_004000"]


def test_evaluation_of_a_revisited_set(town):
    data = load_dataset("roxford5k", town(small_truth()))
    results = evaluate("thumbnail", data)
    rows = results["revisited"]
    assert list(rows) == ["easy", "medium", "hard"]
    assert all(row["queries"] == 70 and 0 < row["mAP"] < 1 for row in rows.values())
    assert results["mAP"] == rows["medium"]["mAP"] == results["mAP_without_query"]
    assert {"mP@1", "mP@5", "mP@10"} < rows["hard"].keys()


LONG = [0] * 100_000  # one list that stands there seventy times
DOUBLED = functools.reduce(lambda inner, _: [inner, inner], range(60), [])  # printed: never ends


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("imlist"), "must hold imlist, qimlist and gnd"),
        (lambda d: d["imlist"].pop(), "imlist must be a list of 4993"),
        (lambda d: d["gnd"].pop(), "gnd must be a list of 70"),
        (lambda d: d["imlist"].__setitem__(5, d["imlist"][6]), "imlist names a photo twice"),
        (lambda d: d["imlist"].__setitem__(5, "../../x"), "cannot be the name of a photo"),
        (lambda d: d["qimlist"].__setitem__(5, 7), "cannot be the name of a photo"),
        (lambda d: d["gnd"][1].pop("hard"), r"entry of all_souls_2 must hold .*\('hard'\)"),
        (lambda d: d["gnd"][1].update(easy=[4993]), "4993 is no place"),
        (lambda d: d["gnd"][1].update(easy=[True]), "True is no place"),
        (lambda d: d["gnd"][1].update(easy=[9], hard=[9]), "a place stands there twice"),
        (lambda d: d["gnd"][1].update(bbx=[1, 2, 3]), "bbx, four numbers"),
        (lambda d: [e.update(easy=LONG) for e in d["gnd"]], "a place stands there twice"),
        (lambda d: d["gnd"][1].update(bbx=[1e400, 3, 60, 40]), "four finite numbers"),
        (lambda d: d["imlist"].__setitem__(5, DOUBLED), r"\[\[.*cannot be the name of a photo"),
        (lambda d: d["gnd"][1].update(bbx=[2, 3, 900, 40]), "query all_souls_2: .*outside"),
        (lambda d: d["gnd"][1].update(bbx=[60, 3, 2, 40]), "all_souls_2: .*upside down"),
        (lambda d: d["gnd"][1].update(junk=[eval]), "holds more than plain data"),
    ],
)
def test_broken_pickles_get_a_sentence(town, change, words):
    data = small_truth()
    change(data)
    with pytest.raises(ValueError, match=words) as caught:
        load_dataset("roxford5k", town(data))
    assert "\n" not in str(caught.value) and "gnd_roxford5k.pkl" in str(caught.value)


def test_missing_places(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .*images; expected .*gnd_rparis6k\.pkl"):
        load_dataset("rparis6k", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "groundtruth").mkdir()
    with pytest.raises(FileNotFoundError, match=r"file .*gnd_rparis6k\.pkl"):
        load_dataset("rparis6k", tmp_path)


@needs_truth
@pytest.mark.parametrize("name", BENCHMARKS)
def test_pickles_against_pythons_own_reader(name):
    data = trusted(name)
    images, queries = read_pickled(TRUTH / f"gnd_{name}.pkl", name)
    assert images == data["imlist"] and [query.image for query in queries] == data["qimlist"]
    kinds = ("easy", "hard") if BENCHMARKS[name].revisited else ("ok",)
    for query, truth in zip(queries, data["gnd"], strict=True):
        assert query.box == tuple(truth["bbx"])
        assert query.positives == {images[place] for kind in kinds for place in truth[kind]}
        assert query.good == {images[place] for place in truth[kinds[0]]}
        assert query.junk == {images[place] for place in truth["junk"]}


@needs_truth
@pytest.mark.parametrize("name", BENCHMARKS)
def test_full_size(name, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "read_image", lambda path: None)  # all are one photo
    benchmark, truth = BENCHMARKS[name], trusted(name)
    names = set(truth["imlist"]) | set(truth["qimlist"]) | benchmark.corrupt
    stand_ins(tmp_path / "images", sorted(names))
    if name == "oxford5k":
        (tmp_path / "groundtruth").symlink_to((TRUTH / "oxford5k").resolve())
    else:
        (tmp_path / f"gnd_{name}.pkl").symlink_to((TRUTH / f"gnd_{name}.pkl").resolve())
    data = load_dataset(name, tmp_path)
    assert len(data.images) == benchmark.photos == len(truth["imlist"])
    assert [query.landmark for query in data.queries] == list(benchmark.landmarks)
    assert len(data.landmarks) == 11
    assert {name for name, _ in data.skipped} == benchmark.corrupt
    assert downloads.verify_dataset(name, tmp_path).problems == ()
    own = [query.image in query.positives for query in data.queries]
    assert own == [False] * 70 if benchmark.revisited else own == [True] * 55


@needs_truth
def test_texts_and_pickle_of_oxford_agree():
    _, pickled = read_pickled(TRUTH / "gnd_oxford5k.pkl", "oxford5k")
    for other in pickled:
        text = read_query(TRUTH / "oxford5k" / f"{other.name}_query.txt")
        assert (text.image, text.box, text.landmark) == (other.image, other.box, other.landmark)
        assert text.positives == other.positives and text.junk == other.junk


@needs_truth
@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_new_queries_ask_for_the_landmark_they_share_most_answers_with(name):
    corrupt = (TRUTH / "paris6k_corrupt.txt").read_text().split()
    assert corrupt == sorted(BENCHMARKS["rparis6k"].corrupt)
    queries = read_pickled(TRUTH / f"gnd_{name}.pkl", name)[1]
    known: dict[str, set[str]] = {}
    for query in queries[:55]:
        known.setdefault(query.landmark, set()).update(query.positives)
    for query in queries[55:]:
        assert query.landmark == max(known, key=lambda x: len(known[x] & query.positives))
