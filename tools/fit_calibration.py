"""Fit the probabilities of `plane-net` and `planes` to rendered and to real pairs.

    python -m tools.fit_calibration FOLDER [--pairs runs/pairs.npz]
    python -m tools.fit_calibration FOLDER --held-out OXFORD

Sources are the validation queries of Toytown and, of FOLDER, the odd queries of each category of
``smvs`` and the odd pairs of ``wxbs``; every 45th photo of ``distractors`` is a wrong answer to all
real ones. A photo's own features and its codes are judged both. Sources count equally, and each as
if one photo in thirty showed what the query shows. Writes a and b of probability =
sigmoid(a · margin + b) into the shipped weights, those of the score of `planes` and what was
measured, by folds of scenes, into ``indiret/data/calibration.json``. It takes a quarter of an hour,
nearly all for the margins, which ``--pairs`` keeps.

``--held-out`` fits nothing and measures the stored calibrations on a data set in the layout of
Oxford; each such look belongs into ``book/decisions/looks.md``.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from indiret.checkpoints import WEIGHTS, hash_tensors, load_tensors, save_tensors
from indiret.cli.hits import is_found
from indiret.datasets import RetrievalDataset, load_clicked_pairs, load_dataset
from indiret.evaluation import fit_calibration
from indiret.experiments.evaluator import provenance
from indiret.experiments.records import DATA
from indiret.images import Picture, read_image
from indiret.planes import PlaneNetRetriever, load_plane_network
from indiret.planes.gradients import fitted_tensors
from indiret.planes.network import NAME
from indiret.planes.voting import float32_on_cpu
from indiret.retrieval import FOUND, Hit
from tools.store_results import write

OUT = DATA / "calibration.json"
PRIOR = 1 / 30  # of the photos, the share that shows what the query shows
BEFORE = (0.3463, -5.7602)  # as fitted on 24 queries of Toytown alone
EDGES = (0, 0.05, 0.2, 0.5, 0.8, 0.95, 1)  # of the bins of a reliability diagram
FOLDS = 10  # of scenes, each held out once
DRAWS = 1000  # of scenes, for the intervals

Values = NDArray[np.float64]
Line = tuple[float, float]  # a and b of sigmoid(a · margin + b)
Read = Callable[[], Picture]


class Search(NamedTuple):
    """A query, and the photos that it is compared with: name, how to read it, whether right."""

    source: str
    scene: str
    query: str
    read: Read
    targets: Sequence[tuple[str, Read, bool]]


class Pairs(NamedTuple):
    """What is known of N pairs; each stands there twice, once by codes."""

    source: NDArray[np.str_]
    scene: NDArray[np.str_]
    query: NDArray[np.str_]
    right: NDArray[np.bool_]
    margin: Values  # of plane-net
    score: Values  # of planes
    coded: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_]) -> "Pairs":
        return Pairs._make(values[chosen] for values in self)


def labelled_searches(dataset: RetrievalDataset, source: str) -> Iterator[Search]:
    """The queries of a data set against all its photos but their own and the unclear ones."""
    for query in dataset.queries:
        names = [n for n in dataset.images if n != query.image and n not in query.junk]
        targets = [(n, partial(dataset.read, n), n in query.positives) for n in names]
        read = partial(dataset.read_query, query)
        yield Search(source, query.landmark, query.name, read, targets)


def real_searches(folder: Path) -> Iterator[Search]:
    """Odd pairs of SMVS against all odd references, and odd pairs of WxBS, both ways round."""
    others = sorted((folder / "distractors").glob("*.jpg"))[::45]
    wrong = [(path.name, partial(read_image, path), False) for path in others]
    odd = []
    for path in sorted(path for path in (folder / "smvs").iterdir() if path.is_dir()):
        pairs = load_dataset("pairs", path)
        odd += [(path.name, pairs, q) for q in pairs.queries if int(Path(q.image).stem) % 2]
    for category, pairs, query in odd:
        targets = [
            (f"{where}/{name}", partial(there.read, name), other is query)
            for where, there, other in odd
            for name in other.positives
        ]
        read, scene = partial(pairs.read_query, query), f"{category}/{query.name}"
        yield Search(f"SMVS {category.replace('_', ' ')}", scene, scene, read, targets + wrong)
    scenes = load_clicked_pairs(folder / "wxbs")[::2]
    for pair in scenes:
        for own in (pair.query, pair.target):
            photos = [(p, other) for other in scenes for p in (other.query, other.target)]
            targets = [(str(p), partial(read_image, p), o is pair) for p, o in photos if p != own]
            name = str(own.relative_to(folder))
            yield Search("WxBS", pair.name, name, partial(read_image, own), targets + wrong)


@float32_on_cpu()
def judge_pairs(searches: Sequence[Search]) -> Pairs:
    """Margins of all pairs, by a photo's own features and by its codes."""
    retriever, kept = PlaneNetRetriever(load_plane_network(), judged=1), dict[str, Any]()
    rows = []
    for search in tqdm(searches, desc="judging", unit="query", disable=None):
        for name, read, _ in (("query", search.read, None), *search.targets):
            if name == "query" or name not in kept:
                own = retriever.encode(read())
                kept[name] = own, retriever.unpack(retriever.pack(own))
        for coded in (False, True):
            query = kept["query"][coded]
            for name, _, right in search.targets:
                target = kept[name][coded]
                match = retriever.match_both(query, target)
                (margin,) = retriever.margins(query, [(target, match)])
                rows.append((*search[:3], right, margin, match.score, coded))
    return Pairs(*map(np.array, zip(*rows, strict=True)))


def weigh(pairs: Pairs) -> Values:
    """(N,) weights of sum N: each source counts as much, and `PRIOR` of each is right."""
    weights = np.zeros(len(pairs.right))
    for source in np.unique(pairs.source):
        for right, share in ((True, PRIOR), (False, 1 - PRIOR)):
            chosen = (pairs.source == source) & (pairs.right == right)
            weights[chosen] = share / chosen.sum()
    return weights * len(weights) / weights.sum()


def fit_line(pairs: Pairs) -> Line:
    return fit_calibration(pairs.margin, pairs.right, weigh(pairs))


def probabilities(line: Line, margin: Values) -> Values:
    return np.exp(-np.logaddexp(0, -(line[0] * margin + line[1])))


def for_share(line: Line, share: float) -> Line:
    """The line where another share of the photos than `PRIOR` is right."""
    return line[0], line[1] + math.log(share / (1 - share)) - math.log(PRIOR / (1 - PRIOR))


def hold_out_scenes(pairs: Pairs) -> Values:
    """(N,) probabilities, each by a line that was fitted without the searches of its scene."""
    scenes, place = np.unique(np.char.add(pairs.source, pairs.scene), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(scenes))[place] % FOLDS
    found = np.zeros(len(fold))
    for number in range(FOLDS):
        line = fit_line(pairs.where(fold != number))
        found[fold == number] = probabilities(line, pairs.margin[fold == number])
    return found


def reliability(likely: Values, pairs: Pairs, weights: Values) -> dict[str, Any]:
    """By bin of `EDGES`: predicted and observed share of right pairs, with intervals over scenes.

    ``error`` is the expected calibration error, their mean difference.
    """
    scenes, scene = np.unique(np.char.add(pairs.source, pairs.scene), return_inverse=True)
    bins = np.digitize(likely, EDGES[1:-1])
    size = len(scenes), len(EDGES) - 1
    parts = np.zeros((3, *size))
    for sums, values in zip(parts, (weights, weights * likely, weights * pairs.right), strict=True):
        np.add.at(sums, (scene, bins), values)
    source = np.array([pairs.source[scene == number][0] for number in range(len(scenes))])
    random, drawn = np.random.default_rng(0), np.zeros((DRAWS, len(scenes)))
    for name in np.unique(source):
        among = np.flatnonzero(source == name)
        drawn[:, among] = random.multinomial(len(among), np.full(len(among), 1 / len(among)), DRAWS)
    once, often = parts.sum(1), np.einsum("ds,psb->pdb", drawn, parts)
    errors = [
        abs(predicted - observed).sum(-1) / count.sum(-1)
        for count, predicted, observed in (once, often)
    ]
    with np.errstate(invalid="ignore"):  # a bin that no draw fills
        low, high = np.nanpercentile(often[2] / often[0], (2.5, 97.5), axis=0)
    rows = [
        {
            "from": EDGES[at], "to": EDGES[at + 1], "pairs": int((bins == at).sum()),
            "right": int((pairs.right & (bins == at)).sum()),
            "predicted": once[1, at] / once[0, at], "observed": once[2, at] / once[0, at],
            "low": low[at], "high": high[at],
        }
        for at in np.unique(bins).tolist()
    ]  # fmt: skip
    interval = np.percentile(errors[1], (2.5, 97.5)).tolist()
    return {"error": [float(errors[0]), *interval], "bins": rows}


def count_found(likely: Values, pairs: Pairs) -> dict[str, int]:
    """What is called found, of pairs and of searches, with what is there and without it.

    ``by_pair`` asks for a probability of `indiret.retrieval.FOUND` alone.
    """
    over, right = likely >= FOUND, pairs.right
    counts = {
        "right": int(right.sum()), "right_over": int((over & right).sum()),
        "wrong": int((~right).sum()), "wrong_over": int((over & ~right).sum()),
        "searches": 0, "first_right": 0, "missed": 0, "missed_by_pair": 0,
        "false_alarms": 0, "false_alarms_by_pair": 0,
    }  # fmt: skip
    for query in np.unique(pairs.query):
        hits = [
            Hit(str(answer), float(margin), float(chance))
            for answer, margin, chance in zip(
                *(values[pairs.query == query] for values in (right, pairs.margin, likely)),
                strict=True,
            )
        ]
        hits.sort(key=lambda hit: -hit.score)
        wrong = [hit for hit in hits if hit.name == "False"]
        counts["searches"] += 1
        counts["false_alarms"] += is_found(wrong)
        counts["false_alarms_by_pair"] += (wrong[0].probability or 0) >= FOUND
        if hits[0].name == "True":
            counts["first_right"] += 1
            counts["missed"] += not is_found(hits)
            counts["missed_by_pair"] += (hits[0].probability or 0) < FOUND
    return counts


def measure(likely: Values, pairs: Pairs, weights: Values) -> dict[str, Any]:
    """Reliability of all pairs, and by source and kind of features what is found."""
    found: dict[str, Any] = {}
    for source in np.unique(pairs.source).tolist():
        for coded, kind in ((False, "features"), (True, "codes")):
            chosen = (pairs.source == source) & (pairs.coded == coded)
            found[f"{source}, {kind}"] = count_found(likely[chosen], pairs.where(chosen))
    return reliability(likely, pairs, weights) | {"found": found}


def fit_and_measure(pairs: Pairs) -> dict[str, Any]:
    """The line of margins, how it does on scenes it has not seen, and each source's own line."""
    weights, sources = weigh(pairs), np.unique(pairs.source).tolist()
    of = {source: pairs.where(pairs.source == source) for source in sources}
    tensors = {"margin": torch.from_numpy(pairs.margin), "right": torch.from_numpy(pairs.right)}
    return {
        "prior": PRIOR,
        "hash": hash_tensors(sources, tensors),
        "line": fit_line(pairs),
        "after": measure(hold_out_scenes(pairs), pairs, weights),
        "own_lines": {source: fit_line(some) for source, some in of.items()},
    }


def store_line(line: Line, made_of: dict[str, Any]) -> None:
    """Write a and b into the shipped weights, and of what they were made into its metadata."""
    path = WEIGHTS / f"{NAME}.safetensors"
    metadata, tensors = load_tensors(path)
    line_now, made_now = torch.tensor(line), json.dumps(made_of, sort_keys=True)
    if not torch.equal(tensors["calibration"], line_now) or metadata.get("calibration") != made_now:
        tensors["calibration"] = line_now
        save_tensors(path, tensors, metadata | {"calibration": made_now})


def measure_held_out(pairs: Pairs, results: dict[str, Any]) -> dict[str, Any]:
    """The stored lines on a data set, and that of `plane-net` for its own share of right pairs."""
    share, even = float(pairs.right.mean()), np.ones(len(pairs.right))
    line, votes = results["line"], results["planes"]["line"]
    lines = {"before": BEFORE, "after": line, "for_its_share": for_share(line, share)}
    found = {
        name: measure(probabilities(one, pairs.margin), pairs, even) for name, one in lines.items()
    }
    scored = pairs._replace(margin=pairs.score)
    planes = measure(probabilities(votes, pairs.score), scored, even)
    return {"share": share, "planes": planes, **found}


def keep_pairs(searches: Sequence[Search], path: Path | None) -> Pairs:
    """The pairs of a file, or judged and kept there; ValueError if they are of something else."""
    tensors = fitted_tensors() | load_tensors(WEIGHTS / f"{NAME}.safetensors")[1]
    del tensors["calibration"]
    of = hash_tensors([(one[:3], len(one.targets)) for one in searches], tensors)
    if path and path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            kept = dict(stored)
        if str(kept.pop("of", "")) != of:
            raise ValueError(f"{path} holds pairs of other photos or weights; name another file.")
        return Pairs(**kept)
    pairs = judge_pairs(searches)
    if path:
        np.savez_compressed(path, of=np.array(of), **pairs._asdict())
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="holds smvs, wxbs and distractors")
    parser.add_argument("--pairs", type=Path, help="a file to keep margins in, read if it is there")
    parser.add_argument("--held-out", type=Path, help="a sample of Oxford to measure on instead")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.held_out:
        oxford = load_dataset("oxford5k", asked.held_out)
        made, results = provenance(oxford), json.loads(OUT.read_text(encoding="utf-8"))
        pairs = keep_pairs(list(labelled_searches(oxford, "Oxford")), asked.pairs)
        results["held_out"] = shown = measure_held_out(pairs, results) | {"provenance": made}
    else:
        town = load_dataset("toytown", split="validation")
        made = provenance(town)  # before anything is changed
        searches = [*labelled_searches(town, "Toytown"), *real_searches(asked.folder)]
        pairs = keep_pairs(searches, asked.pairs)
        results = shown = fit_and_measure(pairs) | {"provenance": made}
        before = measure(probabilities(BEFORE, pairs.margin), pairs, weigh(pairs))
        results["before"] = {"line": BEFORE} | before
        results["planes"] = fit_and_measure(pairs._replace(margin=pairs.score))
        store_line(results["line"], {"prior": PRIOR, "pairs": results["hash"]})
    write(OUT, results)
    print(f"{OUT}: {json.dumps(shown['after'], indent=1)}")


if __name__ == "__main__":
    main()
