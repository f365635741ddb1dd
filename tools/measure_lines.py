"""What lines between matched patches tell of an answer: ``python -m tools.measure_lines``.

Of every validation query of Toytown and every method with evidence: each right answer beside the
wrong answer that came first. A *chance* is that of a right answer to have more than that wrong one
(a tie counts half), with its interval over landmarks and queries: 0.5 tells nothing, below it the
wrong answers have more. Writes ``indiret/data/lines.json``, from which pages, and the choice of the
pair on the landing page, are made.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from indiret.datasets import RetrievalDataset, load_dataset
from indiret.evaluation import line_pattern, map_coverage, nested_bootstrap
from indiret.experiments.evaluator import provenance
from indiret.experiments.records import DATA
from indiret.images import Picture
from indiret.retrieval import Hit, Retriever, build_retriever, index_database, rank
from tools.store_results import write

OUT = DATA / "lines.json"
LINES = 10  # drawn by figures and explorers
METHODS = {  # and the kinds of their evidence
    "base": ("combined", "gradcam (Eq. 3, literal)"),
    "planes": ("planes",),
    "plane-net": ("support",),
}
MEASURES = {  # name → sign, so that more is what one would hope for in a right answer
    "score": 1,
    "spread": -1,
    "crossings": -1,
    "on_plane": 1,
    "coverage": 1,
}


class Answer(NamedTuple):
    """An answer to a query: the hit, and what the method keeps of the photo."""

    hit: Hit
    features: Any
    shape: tuple[int, ...]


def describe_answers(
    retriever: Retriever, picture: Picture, answers: list[Answer], kind: str
) -> list[dict[str, float]]:
    """A row of `MEASURES` for each answer to a query's picture."""
    encoded = retriever.encode_query(picture)
    rows = []
    for hit, features, shape in answers:
        evidence = retriever.explain(encoded, features, kind)
        lines = evidence.matches(LINES)
        pattern = line_pattern(lines, evidence.pairs.shape, shape, picture.shape)
        covered = {"coverage": map_coverage(evidence.query_map)}
        rows.append({"score": hit.score} | pattern._asdict() | covered)
    return rows


def chances(found: dict[tuple[str, str, int], list[dict[str, float]]]) -> dict[str, Any]:
    """By measure: of all right answers, and of the first alone."""

    def more(rows: list[dict[str, float]], measure: str, answers: int | None) -> float:
        *right, wrong = (MEASURES[measure] * row[measure] for row in rows)
        compared = [(value > wrong) + (value == wrong) / 2 for value in right[:answers]]
        return sum(compared) / len(compared)

    return {
        measure: {
            name: nested_bootstrap({key: more(rows, measure, n) for key, rows in found.items()})
            for name, n in (("all", None), ("first", 1))
        }
        for measure in MEASURES
    }


def measure_lines(
    town: RetrievalDataset, methods: Mapping[str, Sequence[str]], count: int | None = None
) -> dict[str, Any]:
    """All methods on the first queries of a data set, or on all of them."""
    found: dict[str, dict[tuple[str, str, int], Any]] = {}
    pairs: dict[str, dict[str, Any]] = {}
    for name, kinds in methods.items():
        retriever = build_retriever(name)
        database = index_database(retriever, town)
        for query in tqdm(town.queries[:count], desc=name, unit="query", disable=None):
            hits = rank(retriever, [query], town, database)[query.name]
            right = [hit for hit in hits if hit.name in query.positives - {query.image}]
            wrong = next(hit for hit in hits if hit.name not in query.positives | query.junk)
            answers = [
                Answer(hit, database.features[hit.name], town.read(hit.name).shape)
                for hit in (*right, wrong)
            ]
            for kind in kinds:
                rows = describe_answers(retriever, town.read_query(query), answers, kind)
                found.setdefault(f"{name}: {kind}", {})[query.landmark, query.name, 0] = rows
                pairs.setdefault(f"{name}: {kind}", {})[query.name] = {
                    "right": {"name": right[0].name} | rows[0],
                    "wrong": {"name": wrong.name} | rows[-1],
                }
    results = {
        name: {
            "answers": sum(len(rows) - 1 for rows in by_query.values()),
            "chances": chances(by_query),
            "pairs": pairs[name],
        }
        for name, by_query in found.items()
    }
    return {"dataset": town.name, "lines": LINES, "methods": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queries", type=int, help="the first ones only, without storing anything")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    town = load_dataset("toytown", split="validation")
    made = provenance(town)  # before anything is changed
    results = measure_lines(town, METHODS, asked.queries)
    for name, result in results["methods"].items():
        print(name, f"({result['answers']} right answers)")
        for measure, row in result["chances"].items():
            shown = ", ".join(f"{of} {v[0]:.2f} ({v[1]:.2f} … {v[2]:.2f})" for of, v in row.items())
            print(f"  {measure:10} {shown}")
    if asked.queries is None:
        write(OUT, results | {"provenance": made})


if __name__ == "__main__":
    main()
