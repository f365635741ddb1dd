"""Make the tables of the book's page on scale from what was measured.

    python -m tools.scale_page book/scale.json _build/source/book

writes ``scale_tables.md`` into the folder; ``book/scale.md`` includes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from indiret.cost import Rates, RunRates, distinct, estimate, in_words
from indiret.sampling import VERSIONS
from indiret.training import TrainingConfig

DATABASES = {
    "Oxford, 5,063 photos": 5063,
    "Paris, 6,392 photos": 6392,
    "Oxford and 1 million more": 1_005_063,
    "Paris and 1 million more": 1_006_392,
}
CORES = {"1 core": 1, "16 cores": 16, "a cluster of 256 cores": 256}
GPU = "1 GPU and 16 cores, at best"  # the GPU takes no time for what it does
QUERIES, SHORTLIST, RUNS = 55, 1000, 40
OXFORD = 567  # photos of Oxford that are good or ok for some query


def tables(found: Mapping[str, Any]) -> str:
    """The page's measured part as Markdown."""
    run, done = RunRates(**found["rates"]), found["rehearsals"]["full"]
    queries, photos = done["queries"], done["photos"]
    photo = (done["processor_seconds"] - queries * photos * run.pair) / (photos + queries)
    rates = Rates(photo, run.pair, run.kept)
    lines = [
        f"Measured on {found['machine']}: {1000 * photo:.0f} ms to read and describe a photo of "
        f"1024 × 768 pixels, {1000 * run.pair:.1f} ms to judge a pair, {1000 * run.step:.0f} ms a "
        f"step of training, {run.kept / 1e6:.1f} MB kept of a photo.",
        *(_rehearsal(name, one) for name, one in sorted(found["rehearsals"].items())),
        "## Ranking 55 queries, one round",
    ]
    rows = []
    for name, count in DATABASES.items():
        whole = estimate(rates, count, QUERIES)
        hours = [in_words(whole.hours / cores) for cores in CORES.values()]
        hours.insert(2, in_words((count + QUERIES) * photo / 3600 / CORES["16 cores"]))
        short = count * photo / 3600 + QUERIES * SHORTLIST * run.pair / 3600
        memory = f"{whole.memory / 1e9:,.0f} GB"
        rows.append([name, f"{whole.pairs:,}", *hours, in_words(short), memory])
    first, second, third = CORES
    places = [first, second, GPU, third]
    head = ["", "pairs", *places, f"shortlist of {SHORTLIST:,}, 1 core", "memory, all kept"]
    lines.append(_table(head, rows))
    lines.append(
        f"A ranking in blocks of {done['block']} photos keeps one block and the scores of what has "
        "passed, whatever the database. *Shortlist* describes every photo once and judges only "
        f"the first {SHORTLIST:,} of each query, which a descriptor of one vector a photo finds at "
        "a price that is not counted here."
    )
    recipe = TrainingConfig()
    drawn = recipe.steps * recipe.batch
    views = 2 * distinct(VERSIONS * OXFORD, drawn)
    slower = photo / run.photo  # real photos are larger than Toytown's, which were measured
    described = slower * views * (run.target + run.query) / 2
    training = recipe.steps * run.step + described
    ranking = estimate(rates, DATABASES["Oxford, 5,063 photos"], QUERIES // 10).hours
    lines.append("## The whole of the paper's Table 1 on Oxford")
    once = [in_words(training / 3600) for _ in CORES]
    once.insert(2, in_words(described / 3600))
    read = described / 3600 + (DATABASES["Oxford, 5,063 photos"] + QUERIES // 10) * photo / 3600
    all_runs = [
        in_words(RUNS * (training / 3600 + ranking) / min(cores, RUNS)) for cores in CORES.values()
    ]
    all_runs.insert(2, in_words(RUNS * read / CORES["16 cores"]))
    rows = [
        ["one training, a fold", *once],
        [f"{RUNS} runs: two fold schemes of ten, Base and HAR, one round", *all_runs],
    ]
    lines.append(_table(["", *places], rows))
    return "\n\n".join(lines) + "\n"


def _rehearsal(setting: str, done: Mapping[str, Any]) -> str:
    whole = (done["photos"], done["queries"]) == (5063, 55)
    kind = "The whole of Oxford" if whole else "A part"
    return (
        f"{kind} was rehearsed with stand-ins of real size in the {setting} setting: "
        f"{done['photos']:,} photos for {done['queries']} queries, "
        f"{done['photos'] * done['queries']:,} pairs, took "
        f"{in_words(done['processor_seconds'] / 3600)} of the processor. The memory was "
        f"{done['gb_after_one_block']:.2f} GB after the first {done['block']} photos and "
        f"{done['gb_at_the_end']:.2f} GB at the end."
        + ("" if whole else " The rest is worked out from its rates, not run.")
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell or ' ' for cell in line)} |" for line in lines)


def main(data: str, out: str) -> None:
    """Write the tables into the folder ``out``."""
    found = json.loads(Path(data).read_text(encoding="utf-8"))
    (Path(out) / "scale_tables.md").write_text(tables(found), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
