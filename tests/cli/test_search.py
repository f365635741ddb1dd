"""The commands for a user's own photos, and what can be handed over by mistake."""

import csv
import json
import os
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from indiret.cli import main
from indiret.datasets import load_dataset
from indiret.images import read_image
from indiret.index import collection, updates
from indiret.retrieval import UNJUDGED, NetworkRetriever
from tests.cli.command import refused, run


def test_search_ranks_and_reports_what_it_skipped(capsys, album):
    photos, query = album
    box = load_dataset("toytown", split="validation").queries[0].box
    status, out, err = run(capsys, "search", query, photos, "--box", *box, "--top", 3, "--json")
    hits = json.loads(out)
    assert status == 0 and len(hits) == 3 and "skipped broken.jpg" in err
    assert hits == sorted(hits, key=lambda hit: -hit["score"]) and hits[0]["name"][:4] == "a_0_"


def test_a_large_folder_is_asked_in_all_turns_where_its_shortlist_can(
    capsys, album, tmp_path, monkeypatch
):
    photos, query = album
    monkeypatch.setattr(collection, "FEW", 2)
    status, out, _ = run(capsys, "search", query, photos, "--turned", "--json")
    assert status == 0 and json.loads(out)[0]["name"][:4] == "a_0_"
    stranger = tmp_path / "stranger.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stranger)
    monkeypatch.setattr(collection, "MOST_VERIFIED", 2)
    for option in ((), ("--turned",)):
        _, out, _ = run(capsys, "search", stranger, photos, *option)
        assert out.startswith("Nothing found") and ("--turned looks" in out) == (not option)
    other = "search", query, photos, "--turned", "--shortlist", "thumbnail"
    assert "works with --shortlist pixels or none" in refused(capsys, *other)


def test_a_reader_who_has_enough_ends_the_list_without_a_word():
    command = [sys.executable, "-m", "indiret", "methods"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == b"" and listing.wait() == 141


def test_nothing_found_is_said(capsys, tmp_path):
    noise = np.random.default_rng(0)
    (tmp_path / "folder").mkdir()
    for name in ("query", "folder/a", "folder/b"):
        picture = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    status, out, _ = run(capsys, "search", tmp_path / "query.png", tmp_path / "folder")
    assert status == 0 and out.startswith("Nothing found")


def test_a_report_is_one_file_with_escaped_names(capsys, album, tmp_path, monkeypatch):
    """The query is named as it was typed: the page is passed on, names of folders are not."""
    photos, query = album
    monkeypatch.chdir(query.parent)
    page = tmp_path / "deep" / "report.html"
    status, out, _ = run(capsys, "search", query.name, photos, "--top", 13, "--html", page)
    assert status == 0 and "a_0_000000.jpg" in out and "%" in out
    text = page.read_text()
    assert "<h1>Photos like query.jpg</h1>" in text and str(query.parent) not in text
    assert "&lt;b&gt;.jpg" in text and text.count("data:image/jpeg") == 2 * 13


def test_explain_lists_patch_pairs(capsys, album, tmp_path):
    photos, query = album
    page = tmp_path / "pair.html"
    pair = "explain", query, photos / "a_0_000001.jpg"
    status, out, _ = run(capsys, *pair, "--html", page, "--json")
    found = json.loads(out)
    assert status == 0 and 0 <= found["probability"] <= 1
    assert 0 < len(found["pairs"]) <= 10
    assert {"i", "j", "k", "l", "value", "probability"} == set(found["pairs"][0])
    grid = found["patch_probability"]
    assert [len(grid), len(grid[0])] == found["query_grid"]
    assert all(pair["probability"] == grid[pair["k"]][pair["l"]] for pair in found["pairs"])
    assert all(0 <= p <= 1 for row in grid for p in row if p is not None)
    assert "data:image/jpeg" in page.read_text()
    status, out, _ = run(capsys, *pair, "--top", 2)
    assert status == 0 and "relevant with" in out and out.count("target patch") == 2
    assert out.count("right with") == 2


def test_explain_looks_into_the_layers_of_a_network_that_has_them(capsys, album):
    photos, query = album
    pair = ("explain", query, photos / "a_0_000001.jpg", "--json")
    layers = ("--evidence", "gradcam", "--layers", "stem")
    pairs = []
    for more in ((), ("--method", "base"), ("--method", "base", *layers)):
        status, out, _ = run(capsys, *pair, *more)
        assert status == 0
        pairs.append(json.loads(out)["pairs"])
    assert json.loads(out)["patch_probability"] is None
    assert len(set(map(json.dumps, pairs))) == 3
    none = refused(capsys, *pair, "--layers", "stem")
    assert "plane-net-turned has no such layers; add --method base" in none
    useless = refused(capsys, *pair, "--method", "base", "--layers", "stem")
    assert "--layers=stem is of no use to --evidence combined" in useless


def test_explain_shows_the_kind_of_evidence_that_is_asked_for(capsys, album):
    photos, query = album
    pair = "explain", query, photos / "a_0_000001.jpg", "--json"
    said = [
        run(capsys, *pair, *(("--evidence", kind) if kind else ()))[1]
        for kind in (None, "verified", "support")
    ]
    assert said[0] == said[1] != said[2]
    unknown = refused(capsys, *pair, "--evidence", "gradcam")
    assert "choose from verified, support, or a --method that has it" in unknown


def test_what_is_searched_for_is_no_hit_unless_asked_for(capsys, album, tmp_path):
    photos, _ = album
    query = photos / "a_0_000000.jpg"
    search = "search", query, photos, "--method", "thumbnail", "--json"
    status, out, err = run(capsys, *search)
    names = [hit["name"] for hit in json.loads(out)]
    assert status == 0 and query.name not in names and f"left out {query.name}: the query" in err
    assert json.loads(run(capsys, *search, "--keep-query")[1])[0]["name"] == query.name
    (tmp_path / "only.jpg").write_bytes(query.read_bytes())
    status, _, err = run(capsys, "search", tmp_path / "only.jpg", tmp_path)
    assert status == 2 and "no other photo" in err


def test_a_report_that_cannot_be_written_costs_no_list(capsys, album, tmp_path):
    photos, query = album
    os.mkfifo(pipe := tmp_path / "pipe")
    for command in (("search", query, photos, "--top", 2), ("explain", query, query)):
        for page in (pipe, tmp_path):
            status, out, err = run(capsys, *command, "--method", "base", "--html", page)
            assert status == 2 and out and err.count(f"{page} cannot be written") == 1
    assert list(tmp_path.iterdir()) == [pipe] and pipe.is_fifo()
    assert not list(tmp_path.parent.glob(".*.part"))


def test_photos_that_vanish_are_named_and_the_others_found(capsys, album, tmp_path, monkeypatch):
    """One between listing and reading, one between ranking and explaining."""
    folder, page = tmp_path / "folder", tmp_path / "r.html"
    shutil.copytree(album[0], folder)
    first, *_, last = sorted(folder.glob("a_*.jpg"))
    score = NetworkRetriever.score
    monkeypatch.setattr(updates, "READ_AT_ONCE", 1)
    monkeypatch.setattr(updates, "read_image", lambda p: (last.unlink(True), read_image(p))[1])
    monkeypatch.setattr(NetworkRetriever, "score", lambda *a: (first.unlink(True), score(*a))[1])
    line = "search", album[1], folder, "--method", "base", "--top", 30, "--html", page
    status, out, err = run(capsys, *line)
    assert status == 0 and last.name not in out and first.name in out
    assert f"skipped {last.name}" in err and f"skipped {first.name}" in err
    assert page.read_text().count("<article>") == out.count(".jpg") - 1


def test_little_structure_and_what_was_not_judged_are_said(capsys, album, tmp_path, monkeypatch):
    photos, query = album
    monkeypatch.setattr(NetworkRetriever, "structure", lambda self, features: 0.01)
    page = tmp_path / "page.html"
    line = "search", query, photos, "--method", "base", "--top", 3, "--html", page
    _, out, _ = run(capsys, *line)
    assert out.startswith("Too little structure: 1.0% of the query's patches")
    assert out.count("  (too little structure)") == 3
    monkeypatch.setattr(NetworkRetriever, "score", lambda *a: UNJUDGED - np.arange(len(a[2]) + 0.0))
    _, out, _ = run(capsys, *line)
    assert out.count("not judged  ") == 3 and page.read_text().count("not judged") == 3
    for hit in json.loads(run(capsys, *line, "--json")[1]):
        assert (hit["score"], hit["probability"], hit["structure"]) == (None, None, 0.01)


@pytest.mark.parametrize("method", ["plane-net", "base"])
def test_search_and_explain_say_the_same_of_a_pair_that_can_be_drawn(capsys, album, method):
    photos, query = album
    _, out, _ = run(capsys, "search", query, photos, "--method", method, "--json")
    for hit in json.loads(out)[::5]:
        pair = query, photos / hit["name"]
        found = json.loads(run(capsys, "explain", *pair, "--method", method, "--json")[1])
        assert found["score"] == pytest.approx(hit["score"], abs=1e-5)
        assert found["probability"] == pytest.approx(hit["probability"], abs=1e-6)
        sizes = [list(read_image(path).shape[:2]) for path in pair]
        assert [found["query_size"], found["target_size"]] == sizes
        places = [(match["i"], match["j"], match["k"], match["l"]) for match in found["pairs"]]
        assert (np.array(places) < found["target_grid"] + found["query_grid"]).all()


def test_what_is_no_photo_is_counted_or_named(capsys, album, tmp_path):
    for name in ("a.dng", "b.dng", "two\nlines\u202e.xcf"):
        (tmp_path / name).touch()
    (tmp_path / "two\nlines\u202e.jpg").write_bytes(album[1].read_bytes())
    line = "search", album[1], tmp_path, "--method", "thumbnail"
    status, out, err = run(capsys, *line)
    assert status == 0 and out.endswith("two\\nlines\\u202e.jpg\n") and out.count("\n") == 1
    assert err == "passed over 2 .dng, 1 .xcf (two\\nlines\\u202e.xcf); --verbose names all\n"
    _, _, err = run(capsys, *line, "--verbose")
    assert err.count("\n") == 3 and "a.dng" in err and "two\\nlines\\u202e.xcf" in err


def test_a_link_to_nowhere_and_a_name_that_is_no_text_do_no_harm(capsysbinary, album, tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (loop := tmp_path / "loop.jpg").symlink_to(loop)
    odd = tmp_path / "odd\udcff.jpg"
    odd.write_bytes(album[1].read_bytes())
    assert main(["search", str(loop), str(tmp_path)]) == 2
    assert b"There is no file" in capsysbinary.readouterr().err
    assert main(["search", str(odd), str(tmp_path), "--keep-query"]) == 0
    out, err = capsysbinary.readouterr()
    assert b"gone.jpg" in err and b"\\udcff.jpg" in out
    assert main(["explain", str(odd), str(tmp_path / "no\udcff.jpg")]) == 2
    assert b"no\\udcff.jpg" in capsysbinary.readouterr().err


@pytest.fixture
def no_pictures(tmp_path):
    """Files that cannot be searched for, and would be hits if they could."""
    folder = tmp_path / "no pictures"
    folder.mkdir()
    (folder / "text.png").write_text("not an image")
    (folder / "empty.png").touch()
    Image.effect_noise((64, 64), 50).save(folder / "truncated.jpg")
    with (folder / "truncated.jpg").open("r+b") as file:
        file.truncate(400)
    Image.new("RGB", (1, 1)).save(folder / "1x1.png")
    Image.new("RGB", (1, 5000)).save(folder / "1x5000.png")
    Image.new("1", (30_000, 30_000)).save(folder / "bomb.png")  # a hundred kilobytes
    return folder


def test_what_is_no_picture_is_refused_or_skipped_aloud(capsys, album, no_pictures):
    paths = sorted(no_pictures.iterdir())
    for path in (*paths, no_pictures / "absent.jpg"):
        assert path.name in refused(capsys, "search", path, album[0])
        assert path.name in refused(capsys, "explain", album[1], path)
    (no_pictures / "good.jpg").write_bytes(album[1].read_bytes())
    status, out, err = run(capsys, "search", album[1], no_pictures, "--json")
    assert status == 0 and [hit["name"] for hit in json.loads(out)] == ["good.jpg"]
    assert all(f"skipped {path.name}" in err for path in paths) and err.count("\n") == len(paths)


def test_a_second_search_reads_no_photo_of_the_folder(capsys, album, tmp_path, monkeypatch):
    photos, query = album
    line = "search", query, photos, "--json", "--out", tmp_path / "index"
    first = run(capsys, *line)
    monkeypatch.setattr(updates, "read_image", None)
    assert run(capsys, *line) == first and first[0] == 0
    assert (tmp_path / "index/catalogue.sqlite").is_file()


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_several_queries_each_have_a_list(capsys, album, tmp_path):
    photos, query = album
    (tmp_path / "box.jpg").write_bytes((photos / "a_1_000000.jpg").read_bytes())
    table = tmp_path / "queries.csv"
    table.write_text(f"\ufeff{query}\n\nbox.jpg,0,0,99.5,99\nabsent.jpg\n")
    line = "search", "--queries", table, photos, "--top", 2
    status, out, err = run(capsys, *line, "--format", "jsonl")
    rows = rows_of(out)
    assert status == 0 and err.count("skipped") == 2 and "absent.jpg" in err
    names = [str(query), str(tmp_path / "box.jpg")]
    assert [(row["query"], row["rank"]) for row in rows] == [(n, r) for n in names for r in (1, 2)]
    hits = json.loads(run(capsys, "search", query, photos, "--top", 2, "--json")[1])
    assert [{"query": names[0], "rank": n} | hit for n, hit in enumerate(hits, 1)] == rows[:2]
    box = "search", tmp_path / "box.jpg", photos, "--box", 0, 0, 99.5, 99, "--top", 2
    assert rows_of(run(capsys, *box, "--format", "jsonl")[1]) == rows[2:]
    assert json.loads(run(capsys, *line, "--json")[1]) == rows
    written = csv.DictReader(run(capsys, *line, "--format", "csv")[1].splitlines())
    assert [row["name"] for row in written] == [row["name"] for row in rows]
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "one.jpg").write_bytes(query.read_bytes())
    out = run(capsys, "search", photos, "--queries", tmp_path / "queries", "--top", 2)[1]
    assert out.startswith(f"{tmp_path}/queries/one.jpg:\n  1  ") and out.count("\n") == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.jpg,1,2,3", "line 1 of"),
        ("\na.jpg,1,2,3,x", "line 2 of"),
        ("\n  ", "names no photo"),
        ("path,x1,y1,x2,y2", "without a header"),
        ('"a.jpg\n', "unexpected end of data"),
        ("a" * 200_000, "field larger than"),
    ],
)
def test_a_table_of_queries_that_is_none_is_refused(capsys, album, tmp_path, text, words):
    (tmp_path / "q.csv").write_text(text)
    assert words in refused(capsys, "search", album[0], "--queries", tmp_path / "q.csv")


def test_a_query_may_have_a_name_of_two_lines_and_none_that_can_be_read_is_an_error(
    capsys, album, tmp_path
):
    shutil.copy(album[1], tmp_path / "two\nlines.jpg")
    (table := tmp_path / "q.csv").write_text('"two\nlines.jpg"\n')
    line = "search", "--queries", table, album[0], "--method", "thumbnail", "--format", "jsonl"
    status, out, _ = run(capsys, *line)
    assert status == 0 and rows_of(out)[0]["query"] == str(tmp_path / "two\nlines.jpg")
    table.write_text("one.jpg;0;0;9;9\ntwo.jpg\n")
    status, out, err = run(capsys, *line)
    assert (status, out) == (2, "") and err.count("There is no file") == 2
    assert err.endswith("q.csv could be searched for; see what was skipped.\n")


def test_damage_is_mended_and_said_in_a_line(capsys, album, tmp_path):
    line = "search", album[1], album[0], "--out", tmp_path / "index", "--json"
    first = run(capsys, *line)[1]
    (tmp_path / "index" / "catalogue.sqlite").write_bytes(b"damaged" * 999)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, out, err = run(capsys, *line)
    assert (status, out) == (0, first) and "\n  " not in err
    assert f"indiret: {tmp_path}/index has a damaged catalogue; it is made again.\n" in err


def test_options_that_exclude_each_other_are_refused(capsys, album, tmp_path):
    photos, query = album
    for more, words in {
        ("--queries", photos, "--html", "x"): "--html is the page of one query",
        ("--queries", photos, photos): "--queries stands for QUERY",
        (photos, "--method", "thumbnail", "--min-probability", 0.5): "gives scores without",
        (photos, "--method", "thumbnail", "--out", tmp_path): "cannot be kept on disk",
        (photos, "--out", photos): "holds the photos; name another folder",
    }.items():
        assert words in refused(capsys, "search", query, *more)
    if not find_spec("pyarrow"):
        parquet = "search", query, photos, "--format", "parquet"
        assert "pip install pyarrow" in refused(capsys, *parquet)


def test_only_probable_hits_are_shown_and_placed_without_replacing(capsys, album, tmp_path):
    photos, query = album
    line = "search", query, photos, "--min-probability", 0.5, "--json"
    shown = [hit["name"] for hit in json.loads(run(capsys, *line)[1])]
    every = json.loads(run(capsys, *line[:3], "--json")[1])
    assert shown == [hit["name"] for hit in every if hit["probability"] >= 0.5] != []
    none = run(capsys, *line[:3], "--method", "base", "--min-probability", 1)[1]
    assert none == "Nothing found: no photo reaches probability 1.0.\n"
    for option, is_link in (("--copy-to", False), ("--link-to", True)):
        into = tmp_path / option
        (into / shown[0]).parent.mkdir(parents=True)
        (into / shown[0]).write_text("mine")
        status, _, err = run(capsys, *line, option, into)
        assert status == 0 and f"{into}/{shown[0][:-4]} (2).jpg, since {shown[0]} was there" in err
        assert (into / shown[0]).read_text() == "mine" and len([*into.iterdir()]) == len(shown) + 1
        placed = into / f"{shown[0][:-4]} (2).jpg"
        assert placed.read_bytes() == (photos / shown[0]).read_bytes()
        assert placed.is_symlink() == is_link
        assert f"{placed} cannot be written" in run(capsys, *line, option, placed)[2]


def test_no_name_is_a_formula_in_a_table(capsys, album, tmp_path):
    for name in ("=1+1.jpg", "@a.jpg", "-b.jpg", "+c.jpg"):
        (tmp_path / name).write_bytes(album[1].read_bytes())
    line = "search", album[1], tmp_path, "--method", "thumbnail", "--format", "csv"
    rows = [*csv.DictReader(run(capsys, *line)[1].splitlines())]
    assert {row["name"][0] for row in rows} == {"'"} and len(rows) == 4
    assert all(float(row["score"]) for row in rows)


def test_a_wrong_box_is_refused(capsys, album):
    for box in ((500, 10, 600, 40), (40, 10, 20, 30), (-50, 0, 20, 20), (1, 1, 2, 2)):
        assert "box" in refused(capsys, "search", album[1], album[0], "--box", *box)


def test_an_empty_folder_is_refused(capsys, album, tmp_path):
    assert str(tmp_path) in refused(capsys, "search", album[1], tmp_path)


def test_broken_weights_are_refused(capsys, album, tmp_path):
    (tmp_path / "text.safetensors").write_text("not weights")
    for file, words in {"text": "not a whole safetensors file", "absent": "there is no"}.items():
        path = tmp_path / f"{file}.safetensors"
        assert words in refused(capsys, "search", album[1], album[0], "--method", path)
