"""`tools.make_slides`: outlines name what is there, and every slide fits its page."""

import shutil
from pathlib import Path

import nbformat
import pytest

from tests.widgets.pages import absent, browser, watch
from tools.make_slides import (
    LECTURES,
    MATHJAX,
    REVEAL,
    ROOT,
    Outline,
    deck_html,
    lecture_notebook,
    main,
    read_cells,
    read_lectures,
    read_outline,
    read_questions,
    read_toml,
)

__all__ = ["browser"]
NOTEBOOKS, SLIDES = ROOT / "notebooks", ROOT / "_build" / "slides"
QUESTIONS = read_questions().values()
NAMES = [lecture.name for lecture in read_lectures()]
OUTSIDE = """() => {
  const small = (host, shown) => [host, ...(host.shadowRoot || host).querySelectorAll("*")]
    .filter(one => [...one.childNodes].some(n => n.data?.trim()) && one.offsetWidth && shown *
      parseFloat(getComputedStyle(one).fontSize) < 16 && !one.closest("style, mjx-container"));
  const slide = Reveal.getCurrentSlide(), found = small(slide, 1);
  const page = slide.getBoundingClientRect();
  const all = [...slide.querySelectorAll(":scope *:not(aside, aside *, mjx-container *)")];
  for (const one of all) {
    const box = one.getBoundingClientRect();
    if (box.right > page.right + 1 || box.bottom > page.bottom + 1) found.push(one.outerHTML);
    if (one.matches("iframe")) {
      const inside = one.contentDocument.documentElement, shown = box.width / one.offsetWidth;
      if (inside.scrollHeight > one.clientHeight + 1) found.push("what is in the frame");
      for (const host of inside.querySelectorAll("body *")) found.push(...small(host, shown));
    }
    if (one.matches("img") && Math.min(box.width, box.height) < 100) found.push("a small picture");
  }
  return found.map(html => (html.textContent ?? html).slice(0, 80));
}"""


@pytest.mark.parametrize("path", sorted(LECTURES.glob("[0-9]*.toml")), ids=lambda path: path.stem)
def test_every_cell_of_an_outline_is_in_its_chapter(path):
    outline = read_outline(int(path.stem))
    assert outline.chapter.startswith(path.stem)
    assert len(read_cells(outline, NOTEBOOKS)) > len(outline.slide) > 1
    assert all(slide.note.strip() and (slide.code or slide.output) for slide in outline.slide)


def test_an_absent_cell_and_a_wrong_order_are_told(tmp_path):
    slide = {"title": "A", "output": ["absent"], "note": "x"}
    chapter = "01_quick_tour"
    with pytest.raises(ValueError, match="no cell 'absent', which slide 'A' shows; its cells: ti"):
        read_cells(Outline.model_validate({"chapter": chapter, "slide": [slide]}), NOTEBOOKS)
    slides = [slide | {"output": [name]} for name in ("wrong", "query")]
    with pytest.raises(ValueError, match=r"'query' of .*, which comes before"):
        read_cells(Outline.model_validate({"chapter": chapter, "slide": slides}), NOTEBOOKS)
    with pytest.raises(ValueError, match="run the chapter first"):
        read_cells(Outline(chapter="none", slide=()), NOTEBOOKS)
    for text, said in (("x = 1", "chapter: Field required"), ("x =", "is no TOML")):
        (tmp_path / "01.toml").write_text(text)
        with pytest.raises(ValueError, match=said):
            read_outline(1, tmp_path)
    with pytest.raises(ValueError, match="is missing"):
        read_toml(tmp_path / "none", Outline)


def test_each_lecture_has_five_questions_of_its_chapters():
    questions = read_questions()
    for lecture in read_lectures():
        assert len(set(lecture.quiz)) == 5
        assert {questions[name].chapter for name in lecture.quiz} <= set(lecture.chapters)
    assert {name for lecture in read_lectures() for name in lecture.quiz} == set(questions)


def test_the_place_and_length_of_an_answer_do_not_give_it_away():
    places = [question.options.index(question.right) for question in QUESTIONS]
    assert max(map(places.count, range(4))) <= len(places) / 2
    assert all(len({option.answer for option in one.options}) == 4 for one in QUESTIONS)


@pytest.fixture
def made_up(tmp_path):
    """Outlines and an executed chapter that try to break the page."""
    nasty = "</script><script>alert(1)</script>"
    (tmp_path / "01.toml").write_text(
        f'chapter = "01_a"\n[[slide]]\ntitle = "T {nasty}"\npoints = ["$k < 3$"]\n'
        'code = ["show"]\noutput = ["show"]\nnote = "N"\n'
    )
    shutil.copy(LECTURES / "questions.toml", tmp_path)
    output = nbformat.v4.new_output("stream", text=nasty)
    cells = [nbformat.v4.new_markdown_cell("# Chapter", id="title")]
    cells += [nbformat.v4.new_code_cell("x = 1", id="before")]
    cells += [nbformat.v4.new_code_cell("print(x)", id="show", outputs=[output])]
    cells += [nbformat.v4.new_code_cell("...", id="exercise-a")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_a.ipynb")
    lecture = read_lectures()[0].model_copy(update={"chapters": (1,)})
    return lecture, tmp_path


def test_a_deck_holds_text_as_text(made_up):
    lecture, folder = made_up
    page = deck_html(lecture, folder, folder)
    assert "alert(1)</script>" not in page and page.count("alert(1)") == 2
    assert r"\(k &lt; 3\)" in page and page.count("<details") == 5 * 4
    assert page.count("<section>") == 1 + 1 + 5


def test_a_lecture_notebook_is_valid_and_keeps_the_code_that_it_needs(made_up):
    lecture, folder = made_up
    notebook = lecture_notebook(lecture, folder, folder)
    nbformat.validate(notebook)
    kinds = {cell.id: cell.metadata.slideshow.slide_type for cell in notebook.cells}
    words = {"title": "slide", "c01-slide-0": "slide", "c01-note-0": "notes"}
    assert kinds == {**words, "c01-before": "skip", "c01-show": "-"}


def test_a_missing_chapter_ends_with_a_sentence(tmp_path, capsys):
    if not REVEAL.is_dir():
        absent("reveal.js", "run `npm install`.")
    assert main(["--chapters", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "run the chapter first" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "assets").iterdir()} > {"reveal.js", MATHJAX.name}


@pytest.mark.parametrize("name", NAMES)
def test_every_slide_fits_its_page_and_asks_for_nothing(name, browser):
    deck = Path(SLIDES / f"{name}.html")
    if not deck.is_file():
        pytest.skip("the slides are absent: run `make slides`.")
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    troubles = watch(page, "file:")
    page.goto(deck.as_uri())
    page.wait_for_function("Reveal.isReady() && MathJax.startup.promise")
    page.evaluate("MathJax.startup.promise")
    outside = {}
    for at in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate(f"Reveal.slide({at})")
        page.wait_for_timeout(100)
        folded = page.locator("section.present details")
        for which in range(folded.count()):  # an opened answer fits, too
            folded.nth(which).evaluate("one => { one.open = true }")
            if found := page.evaluate(OUTSIDE):
                outside[at, which] = found
        if found := page.evaluate(OUTSIDE):
            outside[at] = found
    page.close()
    assert (outside, troubles) == ({}, [])
