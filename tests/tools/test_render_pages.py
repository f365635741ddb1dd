"""`tools.render_pages`: every template is filled, and the README is current."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from jinja2 import UndefinedError

from indiret.datasets import load_dataset
from indiret.experiments.forecast import in_words
from tools import render_pages
from tools.render_pages import (
    BOOK,
    CELL,
    DATA,
    ROOT,
    VIEWS,
    RunRates,
    collection_costs,
    environment,
    main,
)

TEMPLATES = sorted(path.relative_to(BOOK).as_posix() for path in BOOK.rglob("*.md.j2"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_filled(name):
    page = environment().get_template(name).render()
    left = re.findall(r"\{\{|\{%|\}\}|\bNone\b|\bnan\b|Undefined", page)
    assert left == []
    assert page.startswith("# ") and not re.search(r"\n{4}", page)
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        lines = block.splitlines()
        assert set(lines[1]) <= set("|- "), lines[:2]
        assert len({line.count("|") for line in lines}) == 1, block


@pytest.mark.parametrize("form", ["", " | fixed", " | interval"])
def test_a_value_that_is_not_there_is_an_error(tmp_path, form):
    page = f'{{{{ stored("audit/results.json").absent{form} }}}}'
    (tmp_path / "page.md.j2").write_text(page)
    with pytest.raises((UndefinedError, TypeError), match=r"absent|StrictUndefined"):
        render_pages.render_folder(tmp_path)


def test_a_staged_book_has_pages_in_the_place_of_templates(tmp_path, monkeypatch):
    book = tmp_path / "book"
    shutil.copytree(BOOK / "decisions", book / "decisions")
    monkeypatch.setattr(render_pages, "MADE", {})
    main([str(book)])
    assert not list(book.rglob("*.j2"))
    pages = {f"book/decisions/{path.stem}" for path in (book / "decisions").glob("*.md")}
    listed = yaml.safe_load((BOOK / "_toc.yml").read_text("utf-8"))
    assert pages == {name for name in _files(listed) if name.startswith("book/decisions/")}
    with pytest.raises(SystemExit):
        main([str(BOOK)])


def _files(node: object) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_files, node))
    if isinstance(node, dict):
        return _files(list(node.values())) | ({node["file"]} if "file" in node else set())
    return set()


def test_the_readme_is_current_and_one_out_of_date_is_refused_and_mended(tmp_path):
    main(["--readme", str(ROOT / "README.md"), "--check"])
    readme = tmp_path / "README.md"
    readme.write_text('it took <!-- = stored("audit/results.json").trainings -->3<!-- end --> runs')
    with pytest.raises(SystemExit, match=r"--readme .*README\.md"):
        main(["--readme", str(readme), "--check"])
    main(["--readme", str(readme)])
    found = json.loads((DATA / "audit/results.json").read_text("utf-8"))["trainings"]
    assert readme.read_text().endswith(f"-->{found}<!-- end --> runs")


def test_no_figure_of_the_readme_begins_a_line():
    """A comment that begins a line turns the whole line into HTML, in which links are text."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert render_pages.MARKED.search(text)
    assert not re.search(r"^<!-- = .*-->\S", text, re.MULTILINE)


def test_the_toytown_card_is_on_its_page():
    page = environment().get_template("toytown.md.j2").render()
    card = json.loads((DATA / "toytown" / "card.json").read_text("utf-8"))
    counts = [f"{split['images']:,}" for split in card["splits"].values()]
    assert f"| images | {' | '.join(counts)} |" in page
    sift = card["outside_baselines"]["test"]["sift-ransac"]
    assert f"| sift-ransac | {sift['with_own']:.3f} | {sift['without_own']:.3f} |" in page


def test_the_sample_sheet_has_a_row_for_each_landmark():
    town = load_dataset("toytown", split="test")
    sheet = render_pages.sample_sheet(town)
    assert sheet.size == (VIEWS * CELL[0], len(town.landmarks) * CELL[1])
    assert len(sheet.crop((0, 0, *CELL)).getcolors(10**6)) > 1000


def test_the_page_on_scale_says_what_was_measured_and_what_was_not():
    rates = RunRates(photo=0.02, pair=0.005, step=0.3, target=0.02, query=0.01, kept=800_000)
    done = {"photos": 512, "queries": 2, "block": 128, "processor_seconds": 30.0}
    done |= {"gb_after_one_block": 0.7, "gb_at_the_end": 0.71}
    whole = done | {"photos": 5063, "queries": 55, "processor_seconds": 1700.0}

    def render(**rehearsals: object) -> str:
        part = {"machine": "x", "rates": rates._asdict(), "rehearsals": rehearsals}
        return environment().get_template("scale.md.j2").render(scale=part)

    page = render(full=done, fast=whole)
    assert "A part was rehearsed" in page and "computed from its rates, not run" in page
    assert "| Oxford, 5,063 photos | 278,465 |" in page and "55,278,465" in page
    gpu = (30.0 - 1024 * 0.005) / 514 * (5063 + 55) / 16  # all but the pairs, on 16 cores
    row = next(line for line in page.splitlines() if line.startswith("| Oxford, 5,063"))
    assert row.split(" | ")[4] == in_words(gpu / 3600)
    fast = page.index("in the fast setting: 5,063 photos for 55 queries, 278,465 pairs")
    assert fast < page.index("A part was rehearsed")
    page = render(full=whole)
    assert "The whole of Oxford was rehearsed" in page and "not run" not in page


def test_collections_cost_what_their_rates_say():
    """The largest segment has 65,536 photos; 200 are scored in parts of 50, 60 judged of 20."""
    grown = [
        {"photos": n, "thinned": 1, "seconds": n / 1e5, "peak": 3e8 + 1e4 * n, "disk": 2e4 * n}
        for n in (1000, 100_000)
    ]
    thinned = dict.fromkeys(grown[0], 9.9) | {"photos": 10**6, "thinned": 8}
    rates = {"read": 0.001, "code": 0.05, "query": 0.03}
    rates |= {"choose": 0.002, "listed": 200, "verify": 0.01, "verified": 60}
    rates |= {"describe": {"pixels": 0.009}, "describe_query": {"pixels": 0.01}, "codes": 8e4}
    costs = collection_costs({"rates": rates, "growth": {"pixels": [*grown, thinned]}}, "pixels")
    assert costs["most"] == 100_000 and costs["photo"] == pytest.approx(0.06)
    hours = 105_063 * 0.06 / 3600
    alone, at_best, spread = "2.09 s", "1.09 s", "1.00 s"
    assert costs["rows"][1][1:] == [
        *(in_words(hours), in_words(hours / 256), alone, at_best, spread, "1.4 GB", "10.5 GB")
    ]


def test_pages_without_figures_are_not_templates():
    """And a page with them is: nobody would know which of two sources is meant."""
    assert TEMPLATES
    assert not [name for name in TEMPLATES if (BOOK / Path(name).with_suffix("")).exists()]
    for name in TEMPLATES:
        assert re.search(r"\{\{", (BOOK / name).read_text("utf-8")), name
