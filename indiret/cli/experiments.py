"""``indiret reproduce``, ``report``, ``study``, ``audit``, ``robustness`` and ``ablate``."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from indiret.ablation import run_ablation
from indiret.audit import FULL, AuditConfig, run_audit, tell
from indiret.cli import options
from indiret.cost import SECONDS, estimate_grid
from indiret.datasets import load_clicked_pairs, load_dataset
from indiret.grid import read_grid, run_grid, run_together
from indiret.parallel import join_team, leave_team
from indiret.reproduction import write_json
from indiret.robustness import METHODS as STRONG
from indiret.robustness import run_robustness
from indiret.study import StudyConfig, run_study

Scheduler = Annotated[
    str | None,
    Option(metavar="[ADDRESS]", help="Of a Dask cluster; without it, one is started here."),
]
Variants = Annotated[list[str] | None, Option(metavar="NAME ...", help="Kinds of attention.")]
Number = Annotated[int, Option(help="For each network.")]
NumberOrOwn = Annotated[int | None, Option(help="For each network; see --full.")]


def reproduce(
    config: Annotated[Path, Argument(metavar="CONFIG", help="Such as configs/*.toml.")],
    out: options.OutOrOwn = None,
    processes: Annotated[int, Option(help="On this machine.")] = os.cpu_count() or 1,
    scheduler: Scheduler = None,
    no_notebooks: Annotated[bool, Option("--no-notebooks", help="Only results.json.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what it would cost.")] = False,
    seconds: Annotated[float, Option(help="Of measuring for that.")] = SECONDS,
    json_file: options.JsonFile = None,
) -> None:
    """Do the runs of a grid, or forecast them."""
    configs = read_grid(config)
    for device in {config.device for config in configs}:
        options.check_device(device)
    if dry_run:
        forecast = estimate_grid(configs, processes, seconds, not no_notebooks)
        if json_file:
            write_json(json_file, forecast._asdict())
        print(forecast)
        return
    out = out or Path("runs") / config.stem
    team = join_team(configs[0].device)
    if team.size > 1:
        run_together(configs, out, team, not no_notebooks)
        leave_team(team)
        return
    failed = run_grid(configs, out, processes, scheduler, not no_notebooks)
    for key, reason in failed.items():
        print(f"{key}: {reason}", file=sys.stderr)
    if failed:
        raise ValueError(f"{len(failed)} of {len(configs)} runs are not finished; see above.")
    print(f"{len(configs)} runs are finished; `indiret report {out}` sets them beside the paper.")


def report(
    grid: Annotated[Path, Argument(metavar="FOLDER", help="That `reproduce` filled.")],
    out: options.OutOrOwn = None,
) -> None:
    """Write the report's pages, and print where they are."""
    from indiret.paper_report import write_paper_report  # needs matplotlib

    print("\n".join(map(str, write_paper_report(grid, out or grid / "report"))))


def study(
    out: options.Out = Path("runs/study"),
    variants: Variants = None,
    seeds: Number = StudyConfig.seeds,
    steps: Number = StudyConfig.steps,
    oxford: Annotated[Path | None, Option(metavar="ROOT", help="Measure here, too.")] = None,
    wxbs: Annotated[Path | None, Option(metavar="ROOT", help="Clicked points of photos.")] = None,
) -> None:
    """Train every variant, and print their figures."""
    names = tuple(variants or StudyConfig.variants)
    for name in names:
        StudyConfig.network.replace(attention=name)  # refuses what is none
    config = StudyConfig(names, seeds, steps)
    train, validation, test = options.load_towns("train", "validation", "test")
    tests = {"toytown": test}
    if oxford:
        tests["oxford"] = load_dataset("oxford5k", oxford)
    clicked = load_clicked_pairs(wxbs) if wxbs else ()
    results = run_study(out, config, train, validation, tests, clicked)
    for row in results["toytown"]["rows"]:
        figures = "  ".join(
            f"{name} {row[name]['mean']:.3f}"
            for name in ("mAP", "pixel_auc", "patch_match")
            if name in row  # answers that ask leave the evidence as it is
        )
        print(f"{row['variant']:15} {row['scheme']:8} {figures}")
    _print_where(out)


def audit(
    dataset: options.Dataset = "toytown",
    root: options.Root = None,
    split: options.Split = "test",
    out: options.Out = Path("runs/audit"),
    full: Annotated[bool, Option("--full", help="330 networks: base, 11 folds, 5 seeds.")] = False,
    folds: NumberOrOwn = None,
    seeds: NumberOrOwn = None,
    steps: NumberOrOwn = None,
) -> None:
    """Train networks with and without what leaks, and print what they gain from it."""
    data = options.load(dataset, root, split)
    config = replace(
        FULL if full else AuditConfig(), **options.given(folds=folds, seeds=seeds, steps=steps)
    )
    results = run_audit(out, config, data, *options.load_towns("validation"))
    print(f"{data.name}: {results['trainings']} networks of {config.steps} steps")
    print(tell(results))
    _print_where(out)


def robustness(
    dataset: options.Dataset = "toytown",
    root: options.Root = None,
    split: options.Split = "test",
    out: options.Out = Path("runs/robustness"),
    methods: options.Methods = None,
    queries: Annotated[int, Option(help="Of each landmark.")] = 1,
) -> None:
    """Print each method's mean reciprocal rank at every strength of a change."""
    data = options.load(dataset, root, split)
    results = run_robustness(out, data, methods or STRONG, queries)
    for factor, curves in results["curves"].items():
        strengths = "  ".join(f"{strength:5g}" for strength in results["strengths"][factor])
        print(f"{factor + ', ' + results['labels'][factor]:28} {strengths}")
        for method, curve in curves.items():
            ranks = "  ".join(f"{mean:5.2f}" for mean, *_ in curve["reciprocal_rank"])
            print(f"  {method:26} {ranks}")
    _print_where(out)


def ablate(
    out: options.Out = Path("runs/ablation"), steps: Number = 200, seeds: Number = 1
) -> None:
    """Train a network for each choice, and print what it changes."""
    train, validation = options.load_towns("train", "validation")
    results = run_ablation(out, train, validation, steps=steps, seeds=seeds)
    width = max(map(len, results["rows"]))
    for name, row in results["rows"].items():
        gain = row["gain"]
        print(
            f"{name:{width}} mAP {row['mAP']['mean']:.3f}  {gain['mean']:+.3f} "
            f"({gain['low']:+.3f} … {gain['high']:+.3f}) on the reference, "
            f"{row['ms_per_step']:.0f} ms a step"
        )
    print(f"paper-base: {results['paper-base']['ms_per_step']:,.0f} ms a step")
    _print_where(out)


def _print_where(out: Path) -> None:
    print(f"every figure with its interval: {out / 'results.json'}")
