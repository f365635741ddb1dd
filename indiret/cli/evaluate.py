"""``indiret evaluate``, ``compare`` and ``methods``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from indiret.baselines import MATCHERS, OPTIONS
from indiret.checkpoints import write_json
from indiret.cli import options
from indiret.datasets import RetrievalDataset
from indiret.experiments import evaluator
from indiret.retrieval import FAMILIES, list_retrievers


def evaluate_command(
    dataset: options.Dataset = "toytown",
    root: options.Root = None,
    split: options.Split = "test",
    regions: options.Regions = None,
    unreviewed: options.Unreviewed = False,
    method: Annotated[str, Option(help="See `indiret methods`.")] = "base",
    json_file: options.JsonFile = None,
    device: options.Device = "cpu",
) -> None:
    """Print a method's figures on a data set."""
    data = options.load(dataset, root, split, regions, unreviewed)
    results = evaluator.evaluate(method, data, device=options.check_device(device))
    options.report_skipped(results["skipped"])
    low, high = results["mAP_ci"]
    print(f"{results['dataset']}, {results['method']}: {results['queries']} queries")
    if left_out := _left_out(data, results):
        print(f"{left_out}, named above")
    print(f"mAP {results['mAP']:.4f}  95 % interval {low:.4f} … {high:.4f} over landmarks")
    if results["mAP_without_query"] is not None:
        print(f"mAP without the query's own photo {results['mAP_without_query']:.4f}")
    print("  ".join(f"{name} {results[name]:.4f}" for name in ("mAP@5", "mAP@10", "mAP@20")))
    for setup, row in results.get("revisited", {}).items():
        print(f"{setup:6} " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    print(
        f"{results['ms_per_query']:.0f} ms a query, {results['ms_per_pair']:.2f} ms a pair, "
        f"{results['mb_per_image']:.3f} MB an image"
    )
    if evidence := results.get("evidence"):
        print(f"evidence is measured on {results['regions']}")
        for name, row in evidence.items():
            shares = (f"{k} {value:.3f}" for k, value in row.items() if isinstance(value, float))
            print(f"evidence, {name}: {'  '.join(shares)}")
    if json_file:
        write_json(json_file, results)


def compare_command(
    dataset: options.Dataset = "toytown",
    root: options.Root = None,
    split: options.Split = "test",
    regions: options.Regions = None,
    unreviewed: options.Unreviewed = False,
    methods: options.Methods = None,
    out: options.Out = Path("runs/compare"),
    no_evidence: Annotated[bool, Option("--no-evidence", help="Measure ranking alone.")] = False,
    device: options.Device = "cpu",
) -> None:
    """Print a line of figures for each method; learned matchers, which take hours, if named."""
    data = options.load(dataset, root, split, regions, unreviewed)
    names = methods or [name for name in list_retrievers() if name not in MATCHERS]
    options.check_device(device)
    for results in evaluator.compare(names, data, out, not no_evidence, device):
        low, high = results["mAP_ci"]
        print(
            f"{results['method']:28} mAP {results['mAP']:.3f} ({low:.3f} … {high:.3f})  "
            f"{results['ms_per_query']:6.0f} ms a query  {results['mb_per_image']:.3f} MB an image"
            f"  {_left_out(data, results)}".rstrip()
        )


def _left_out(data: RetrievalDataset, results: Mapping[str, Any]) -> str:
    """How many of what was listed could not be read or asked, as soon as it was found or later."""
    early = dict(data.skipped)
    listed, count = len(data.images) + len(data.queries), len(early | results["skipped"])
    return f"{count} of {listed + len(early)} photos and queries left out" if count else ""


def methods_command() -> None:
    """Print what ``--method`` takes: names, then forms of names, then what stands in a form."""
    lines = list_retrievers() | {form: one.description for form, one in FAMILIES.items()}
    lines["BACKBONE"] = "torchvision/NAME or timm/NAME, with @SIDE to squash pictures"
    lines["FOLDER"] = "of features, images/NAME.npy and queries/QUERY.npy"
    lines["OPTION"] = ", ".join(OPTIONS)
    width = max(map(len, lines))
    for name, description in lines.items():
        print(f"{name:{width}} {description}")
