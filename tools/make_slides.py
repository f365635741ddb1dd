"""Make the slides of a course from the cells of the chapters.

    python -m tools.make_slides --chapters _build/source/notebooks --out _build/slides

``book/lectures/courses.toml`` lists the lectures: their chapters, and the questions of their quiz
from ``questions.toml``. ``NN.toml`` is the outline of chapter NN: its slides in order, each with
the ids of the cells whose code or output it shows, and a speaker note. From them and the executed
chapters come, for each lecture,

- ``COURSE_N.html``, a deck that works offline: reveal.js stands beside it in ``assets``;
- ``COURSE_N.ipynb``, the same as a notebook with slide types, for RISE in JupyterLab. It keeps
  all code of its chapters, so that it can be run live.

Exit status: 0 when all were made; 2 when an outline names what is not there.
"""

import argparse
import hashlib
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pydantic import BaseModel, ConfigDict, ValidationError
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).parents[1]
LECTURES = ROOT / "book" / "lectures"
REVEAL = ROOT / "node_modules" / "reveal.js"
MATHJAX = ROOT / "book" / "_static" / "mathjax-3.2.2-tex-svg.js"
WIDGET_STYLE = """<style>
body { font-family: system-ui, sans-serif; margin: 0; }
body * { font-size: 32px; } /* shown at .58, so that no letters are below 16 pixels */
</style>"""
ASSETS = ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js")


class Strict(BaseModel):
    """What is read from a file: an unknown key is an error, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Slide(Strict):
    """One slide: a few words, and the cells whose code or output it shows."""

    title: str
    points: tuple[str, ...] = ()  # Markdown
    code: tuple[str, ...] = ()  # cells whose code is shown
    output: tuple[str, ...] = ()  # cells whose output is shown, one below another
    note: str  # for the speaker


class Outline(Strict):
    """The slides of one chapter, in the order of its cells."""

    chapter: str  # the notebook's name without .ipynb
    slide: tuple[Slide, ...]


class Option(Strict):
    """An answer to choose, and what is said to who chose it."""

    answer: str
    why: str


class Question(Strict):
    """A question of a quiz, with one right answer."""

    id: str
    chapter: int
    text: str
    right: Option
    wrong: tuple[Option, ...]

    @property
    def options(self) -> list[Option]:
        """All answers, in an order that does not give the right one away."""

        def key(option: Option) -> str:
            return hashlib.sha256(f"{self.id} {option.answer}".encode()).hexdigest()

        return sorted((self.right, *self.wrong), key=key)


class Lecture(Strict):
    """One lecture of a course."""

    course: str
    number: int
    title: str
    chapters: tuple[int, ...]
    quiz: tuple[str, ...]  # ids of questions

    @property
    def name(self) -> str:
        return f"{self.course}_{self.number}"


class Courses(Strict):
    """All lectures."""

    lecture: tuple[Lecture, ...]


class Quizzes(Strict):
    """All questions."""

    question: tuple[Question, ...]


Kind = TypeVar("Kind", bound=Strict)


def read_toml(path: Path, kind: type[Kind]) -> Kind:
    """A file of one kind; ValueError, in a sentence, where it is not as it should be."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing.") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {where}: {first['msg']}.") from error


def read_lectures(folder: Path = LECTURES) -> tuple[Lecture, ...]:
    return read_toml(folder / "courses.toml", Courses).lecture


def read_questions(folder: Path = LECTURES) -> dict[str, Question]:
    """Every question by its id, in the order of the file."""
    found = read_toml(folder / "questions.toml", Quizzes).question
    return {question.id: question for question in found}


def read_outline(chapter: int, folder: Path = LECTURES) -> Outline:
    return read_toml(folder / f"{chapter:02}.toml", Outline)


def read_cells(outline: Outline, folder: Path) -> dict[str, NotebookNode]:
    """A chapter's cells by id; ValueError unless it has those of the outline, in its order."""
    path = folder / f"{outline.chapter}.ipynb"
    if not path.is_file():
        raise ValueError(f"{path} is not there; run the chapter first, as `make slides` does.")
    cells = {cell["id"]: cell for cell in nbformat.read(path, as_version=4).cells}
    places, before = list(cells), -1
    for slide in outline.slide:
        for name in {**dict.fromkeys(slide.code), **dict.fromkeys(slide.output)}:
            if name not in cells:
                raise ValueError(
                    f"{path} has no cell {name!r}, which slide {slide.title!r} shows; "
                    f"its cells: {', '.join(places)}."
                )
        shown = sorted(map(places.index, {*slide.code, *slide.output}))
        if shown and shown[0] <= before:
            raise ValueError(
                f"Slide {slide.title!r} shows cell {places[shown[0]]!r} of {path}, which comes "
                "before a cell of an earlier slide; give the slides in the order of the cells."
            )
        before = shown[-1] if shown else before
    return cells


@cache
def markdown_parser() -> MarkdownIt:
    """Markdown with tables and dollar math; HTML in it is shown as text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return parser.use(dollarmath_plugin, renderer=show_math)


def show_math(text: str, options: dict[str, Any]) -> str:
    """A formula as MathJax finds it."""
    return rf"\[{escape(text)}\]" if options["display_mode"] else rf"\({escape(text)}\)"


def to_html(text: str, inline: bool = False) -> str:
    r"""Markdown as HTML.

    >>> to_html("at most $k < 3$", inline=True)
    'at most <span class="math inline">\\(k &lt; 3\\)</span>'
    """
    parser = markdown_parser()
    return parser.renderInline(text) if inline else parser.render(text)


def code_html(source: str) -> str:
    return highlight(source, PythonLexer(), HtmlFormatter(cssclass="code"))


def output_html(cell: NotebookNode) -> str:
    """What a cell has printed and returned, as one piece of HTML."""
    parts, printed = [], ""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if output.output_type == "stream":
            printed += output.text
        elif "image/png" in data:
            png = "".join(data["image/png"].split())
            label = escape(f"the picture of cell {cell['id']}")
            parts.append(f'<img alt="{label}" src="data:image/png;base64,{png}">')
        elif "text/html" in data and "text/markdown" not in data:
            made = data["text/html"]
            widget = "<script" in made  # its styles stay its own, in a frame
            page = escape(WIDGET_STYLE + made)
            frame = f'<iframe title="{escape(cell["id"])}" srcdoc="{page}"></iframe>'
            parts.append(frame if widget else made)
        elif "text/markdown" in data:
            parts.append(to_html(data["text/markdown"]))
        elif "text/plain" in data:
            parts.append(f"<pre>{escape(data['text/plain'])}</pre>")
    if printed:
        parts.insert(0, f"<pre>{escape(printed.rstrip())}</pre>")
    if not parts:
        raise ValueError(f"Cell {cell['id']!r} has no output to show; run its chapter first.")
    return "\n".join(parts)


def slide_cells(slide: Slide, cells: dict[str, NotebookNode]) -> dict[str, str]:
    """What the template needs of a slide."""
    return {
        "title": to_html(slide.title, inline=True),
        "points": "".join(f"<li>{to_html(point, inline=True)}</li>" for point in slide.points),
        "code": "".join(code_html(cells[name].source) for name in slide.code),
        "outputs": "".join(
            f'<div class="output">{output_html(cells[name])}</div>' for name in slide.output
        ),
        "note": to_html(slide.note),
    }


def chapter_title(cells: dict[str, NotebookNode]) -> str:
    """The heading of a chapter, as plain Markdown."""
    return next(iter(cells.values())).source.partition("\n")[0].lstrip("# ")


def deck_html(lecture: Lecture, folder: Path, lectures: Path = LECTURES) -> str:
    """The reveal.js page of one lecture, from the executed chapters of a folder."""
    chapters = []
    for number in lecture.chapters:
        outline = read_outline(number, lectures)
        cells = read_cells(outline, folder)
        slides = [slide_cells(slide, cells) for slide in outline.slide]
        chapters.append({"number": number, "title": chapter_title(cells), "slides": slides})
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True
    )
    questions = read_questions(lectures)
    return made.get_template("deck.html.j2").render(
        lecture=lecture,
        chapters=chapters,
        questions=[questions[name] for name in lecture.quiz],
        code_css=HtmlFormatter(cssclass="code").get_style_defs(),
    )


def typed(cell: NotebookNode, kind: str) -> NotebookNode:
    """A cell with its slide type, as RISE and nbconvert read it."""
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


def lecture_cells(number: int, outline: Outline, cells: dict[str, NotebookNode]) -> Iterator[Any]:
    """A chapter's code cells up to its summary, with words and notes of the slides among them."""

    def words(text: str, kind: str, name: str) -> NotebookNode:
        made = nbformat.v4.new_markdown_cell(text, id=f"c{number:02}-{name}")
        return typed(made, kind)

    places = list(cells)
    opens: dict[str, list[tuple[int, Slide]]] = {}
    closes: dict[str, tuple[int, Slide]] = {}
    at = 0
    for count, slide in enumerate(outline.slide):
        shown = sorted(map(places.index, {*slide.code, *slide.output})) or [at]
        opens.setdefault(places[shown[0]], []).append((count, slide))
        at = shown[-1]
        closes[places[at]] = (count, slide)
    shown_code = {name for slide in outline.slide for name in slide.code}
    shown_output = {name for slide in outline.slide for name in slide.output}
    for name, cell in cells.items():
        for count, slide in opens.get(name, ()):
            points = "\n".join(f"- {point}" for point in slide.points)
            yield words(f"## {slide.title}\n\n{points}".rstrip(), "slide", f"slide-{count}")
        if cell.cell_type == "code" and not name.startswith("exercise-"):
            kept = nbformat.from_dict({**cell, "id": f"c{number:02}-{name}"[:64]})
            kept.metadata = nbformat.from_dict({})
            is_shown = name in shown_code | shown_output
            if name not in shown_output:
                kept.outputs = []
            if is_shown and name not in shown_code:
                kept.metadata["jupyter"] = nbformat.from_dict({"source_hidden": True})
            yield typed(kept, "-" if is_shown else "skip")
        if name in closes:
            count, slide = closes[name]
            yield words(slide.note, "notes", f"note-{count}")


def lecture_notebook(lecture: Lecture, folder: Path, lectures: Path = LECTURES) -> NotebookNode:
    """One lecture as a notebook that RISE shows as slides."""
    title = f"# {lecture.title}"
    made = nbformat.v4.new_notebook()
    made.cells.append(typed(nbformat.v4.new_markdown_cell(title, id="title"), "slide"))
    for number in lecture.chapters:
        outline = read_outline(number, lectures)
        cells = read_cells(outline, folder)
        made.cells += lecture_cells(number, outline, cells)
    made.metadata["kernelspec"] = {
        "name": "python3", "language": "python", "display_name": "Python 3",
    }  # fmt: skip
    made.metadata["rise"] = {"scroll": True}
    return made


def copy_assets(out: Path, reveal: Path = REVEAL) -> None:
    """Put reveal.js and MathJax beside the decks; ValueError where reveal.js is not installed."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (*(reveal / name for name in ASSETS), MATHJAX):
        if not path.is_file():
            raise ValueError(f"{path} is not there; run `npm install` in the project's folder.")
        shutil.copy(path, out / path.name)
    shutil.copy(reveal / "LICENSE", out / "reveal-LICENSE.txt")
    shutil.copy(MATHJAX.with_name("mathjax-LICENSE.txt"), out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the slides of all lectures; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_slides", description="Make slides from the chapters."
    )
    parser.add_argument("--chapters", type=Path, default=Path("_build/source/notebooks"))
    parser.add_argument("--out", type=Path, default=Path("_build/slides"))
    options = parser.parse_args(arguments)
    try:
        copy_assets(options.out / "assets")
        for lecture in read_lectures():
            page = options.out / f"{lecture.name}.html"
            page.write_text(deck_html(lecture, options.chapters), encoding="utf-8")
            notebook = lecture_notebook(lecture, options.chapters)
            nbformat.write(notebook, page.with_suffix(".ipynb"))
            print(f"{page} and {page.stem}.ipynb")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
