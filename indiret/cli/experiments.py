"""``indiret reproduce``, ``report``, ``study``, ``audit``, ``robustness`` and ``ablate``."""

import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from indiret.checkpoints import write_json
from indiret.cli import options
from indiret.datasets import load_clicked_pairs, load_dataset
from indiret.distributed import destroy_process_group, init_process_group
from indiret.experiments import ablation, audit, forecast, grid, robustness, study
from indiret.images import printable

_Variants = Annotated[list[str] | None, Option(metavar="NAME ...", help="Kinds of attention.")]
_Number = Annotated[int, Option(help="For each network.")]
_NumberOrOwn = Annotated[int | None, Option(help="For each network; see --full.")]


def reproduce_command(
    config: Annotated[Path, Argument(metavar="CONFIG", help="Such as configs/*.toml.")],
    out: options.OutOrOwn = None,
    processes: Annotated[int, Option(help="On this machine.")] = os.cpu_count() or 1,
    scheduler: options.Scheduler = None,
    no_notebooks: Annotated[bool, Option("--no-notebooks", help="Only results.json.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what it would cost.")] = False,
    seconds: Annotated[float, Option(help="Of measuring for that.")] = forecast.SECONDS,
    json_file: options.JsonFile = None,
    yes: Annotated[bool, Option("--yes", help=f"To more than {grid.MOST_RUNS:,} runs.")] = False,
) -> None:
    """Do the runs of a grid, or forecast them."""
    configs = grid.read_grid(config, math.inf if yes else grid.MOST_RUNS)
    for device in {config.device for config in configs}:
        options.check_device(device)
    configs = grid.place_on_devices(configs)
    if dry_run:
        costs = forecast.estimate_grid(configs, processes, seconds, not no_notebooks)
        print(costs)
        if json_file:
            write_json(json_file, costs._asdict())
        return
    out = out or Path("runs") / config.stem
    group = init_process_group(configs[0].device)
    if group.size > 1:
        grid.run_together(configs, out, group, not no_notebooks)
        destroy_process_group(group)
        return
    failed = grid.run_grid(configs, out, processes, scheduler, not no_notebooks)
    for key, reason in failed.items():
        print(printable(f"{key}: {reason}"), file=sys.stderr)
    if failed:
        raise ValueError(f"{len(failed)} of {len(configs)} runs are not finished; see above.")
    options.report_skipped(skipped := grid.skipped_in(configs, out))
    print(f"{len(skipped)} photos and queries were left out.")
    print(f"Finished: {len(configs)} runs. `indiret report {out}` sets them beside the paper.")


def report_command(
    grid: Annotated[Path, Argument(metavar="FOLDER", help="That `reproduce` filled.")],
    out: options.OutOrOwn = None,
) -> None:
    """Write the report's pages, and print where they are."""
    from indiret.reports import write_paper_report  # needs matplotlib

    print("\n".join(map(str, write_paper_report(grid, out or grid / "report"))))


def study_command(
    out: options.Out = Path("runs/study"),
    variants: _Variants = None,
    seeds: _Number = study.StudyConfig.seeds,
    steps: _Number = study.StudyConfig.steps,
    oxford: Annotated[Path | None, Option(metavar="ROOT", help="Measure here, too.")] = None,
    wxbs: Annotated[Path | None, Option(metavar="ROOT", help="Clicked points of photos.")] = None,
) -> None:
    """Train every variant, and print their figures."""
    config = study.StudyConfig(tuple(variants or study.StudyConfig.variants), seeds, steps)
    for name in config.variants:
        config.network.replace(attention=name)  # refuses what is none
    train, validation, test = options.load_towns("train", "validation", "test")
    tests = {"toytown": test}
    if oxford:
        tests["oxford"] = load_dataset("oxford5k", oxford)
    clicked = load_clicked_pairs(wxbs) if wxbs else ()
    results = study.run_study(out, config, train, validation, tests, clicked)
    for row in results["toytown"]["rows"]:
        # A row without evidence is one of query expansion, which leaves it as it is.
        names = [name for name in ("mAP", "pixel_auc", "patch_match") if name in row]
        figures = "  ".join(f"{name} {row[name]['mean']:.3f}" for name in names)
        print(f"{row['variant']:15} {row['scheme']:8} {figures}")
    _print_where(out)


def audit_command(
    dataset: options.Dataset = "toytown",
    root: options.Root = None,
    split: options.Split = "test",
    out: options.Out = Path("runs/audit"),
    full: Annotated[bool, Option("--full", help="330 networks: base, 11 folds, 5 seeds.")] = False,
    folds: _NumberOrOwn = None,
    seeds: _NumberOrOwn = None,
    steps: _NumberOrOwn = None,
) -> None:
    """Train networks with and without what leaks, and print what they gain from it."""
    data = options.load(dataset, root, split)
    given = options.given(folds=folds, seeds=seeds, steps=steps)
    config = replace(audit.FULL_AUDIT if full else audit.AuditConfig(), **given)
    results = audit.run_audit(out, config, data, *options.load_towns("validation"))
    print(f"{data.name}: {results['trainings']} networks of {config.steps} steps")
    print(audit.audit_summary(results))
    _print_where(out)


def robustness_command(
    dataset: options.Dataset = "toytown",
    root: options.Root = None,
    split: options.Split = "test",
    out: options.Out = Path("runs/robustness"),
    methods: options.Methods = None,
    queries: Annotated[int, Option(help="Of each landmark.")] = 1,
) -> None:
    """Print each method's mean reciprocal rank at every strength of a change."""
    data = options.load(dataset, root, split)
    asked = methods or robustness.ROBUSTNESS_METHODS
    results = robustness.run_robustness(out, data, asked, queries)
    for factor, curves in results["curves"].items():
        strengths = "  ".join(f"{strength:5g}" for strength in results["strengths"][factor])
        print(f"{factor + ', ' + results['labels'][factor]:28} {strengths}")
        for method, curve in curves.items():
            ranks = "  ".join(f"{mean:5.2f}" for mean, *_ in curve["reciprocal_rank"])
            print(f"  {method:26} {ranks}")
    _print_where(out)


def ablate_command(
    out: options.Out = Path("runs/ablation"),
    steps: _Number = 200,
    seeds: _Number = 1,
    cnns: Annotated[bool, Option("--cnns", help="ResNet, VGG and Inception instead.")] = False,
) -> None:
    """Train a network for each choice, and print what it changes."""
    rows = ablation.CNNS if cnns else ablation.ABLATIONS
    train, validation = options.load_towns("train", "validation")
    results = ablation.run_ablation(out, train, validation, rows, steps, seeds)
    width = max(map(len, results["rows"]))
    for name, row in results["rows"].items():
        gain = "{mean:+.3f} ({low:+.3f} … {high:+.3f})".format(**row["gain"])
        mean, spent = row["mAP"]["mean"], row["ms_per_step"]
        print(f"{name:{width}} mAP {mean:.3f}  {gain} on the reference, {spent:.0f} ms a step")
    print(f"paper-base: {results['paper-base']['ms_per_step']:,.0f} ms a step")
    _print_where(out)


def _print_where(out: Path) -> None:
    print(f"every figure with its interval: {out / 'results.json'}")
