"""The figures that records and chapters quote are those that the repository stores.

A record is prose and its figures are typed, so each one that has a stored result is compared with
it here: whole tables by `rows_of`, sentences by `says`. Whoever stores new results is told which
sentence is out of date.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import nbformat
import pytest

from indiret.ablation import stored_ablation
from indiret.audit import stored_audit
from indiret.cascade import JUDGED, VOTED
from indiret.claims import STORED_GRID, STORED_PAPER, published, read_measured
from indiret.comparison import CASCADE, VERIFIED, is_second_look, read_results
from indiret.cost import STORED as FORECAST
from indiret.networks import WEIGHTS, load_network, parameter_count
from indiret.planenet import JUDGED as HALF
from indiret.robustness import stored_robustness
from indiret.statistics import nested_bootstrap
from indiret.study import cells, stored_results

ROOT = Path(__file__).parents[1]
LITE = "efficientnet-lite0"
FOUR = "views: the paper's four"
MASKS = {  # the study's name and the record's
    "none": "none (Base)",
    "predicted": "predicted centre",
    "gaussian": "full Gaussian",
    "har-normalised": "HAR, normalised",
    "har": "HAR as printed",
    "plane": "plane",
}


def record(number: int) -> str:
    (path,) = (ROOT / "book/decisions").glob(f"{number:04}_*.md")
    return plain(path.read_text(encoding="utf-8"))


def chapter(number: int) -> str:
    found = (cell.source for cell in notebook_cells(number) if cell.cell_type == "markdown")
    return plain("\n".join(found))


def notebook_cells(number: int) -> list[Any]:
    (path,) = (ROOT / "notebooks").glob(f"{number:02}_*.ipynb")
    return nbformat.read(path, as_version=4).cells


def plain(text: str) -> str:
    """Without emphasis, and with one kind of minus."""
    return text.replace("**", "").replace("−", "-")


def says(page: str, *sentences: str) -> None:
    """Each sentence is on the page, however its lines are broken."""
    flat = " ".join(page.split())
    assert [sentence for sentence in sentences if plain(sentence) not in flat] == []


def rows_of(page: str, head: str, rest: str = ".*") -> dict[str, list[str]]:
    """The one table whose first line begins so: its cells by their row's first."""
    pattern = rf"^ *{re.escape(head)}{rest}\n *\|[-|]+\|\n((?: *\|.*\n)+)"
    (table,) = re.findall(pattern, page, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows}


def interval(row: Any, form: str = ".3f") -> str:
    return f"{row['mean']:{form}} ({row['low']:{form}} … {row['high']:{form}})"


def gain(row: Any) -> str:
    """Signed, with the record's minus."""
    return interval(row, "+.3f")


def comparison(dataset: str) -> dict[str, Any]:
    return {result["method"]: result for result in read_results(dataset=dataset)}


TEST, OXFORD = comparison("toytown/test"), comparison("oxford5k")


def score(result: Any, measure: str = "mAP", digits: int = 2) -> str:
    low, high = result[f"{measure}_ci"]
    return f"{result[measure]:.3f} ({low:.{digits}f} … {high:.{digits}f})"


def evidence(row: Any, *measures: str) -> list[str]:
    return [f"{row[name]:.3f}" if name in row else "" for name in measures]


def test_the_study_of_masks():
    results, page = stored_results(), record(12)
    rows, seeds = cells(results), range(results["config"]["seeds"])
    learnt = rows_of(page, "| mask | mAP |", rest="")
    tested = rows_of(page, "| mask | mAP | gain over Base")
    for variant, name in MASKS.items():
        last = [results["logs"][f"{variant}-{seed}"][-1]["validation_map"] for seed in seeds]
        assert learnt[name] == [f"{mean(last):.3f} ({min(last):.3f} … {max(last):.3f})"], name
        expected = []
        for value in (rows[variant, "none"][measure] for measure in ("mAP", "patch_match")):
            expected += [f"{value['mean']:.3f}", gain(value["gain"]) if "gain" in value else ""]
        assert tested[name] == expected, name
    oxford = cells(results, "oxford")
    real = {name: f"{oxford[name, 'none']['mAP']['mean']:.3f}" for name in MASKS}
    asking = oxford["none", "answers"]["mAP"]
    points = {
        name: mean(row["within_one"] for row in results["clicked"] if row["variant"] == name)
        for name in MASKS
    }
    says(
        page,
        f"Base {real['none']}, full Gaussian {real['gaussian']}, predicted {real['predicted']}, "
        f"plane {real['plane']}, HAR {real['har']}, HAR normalised {real['har-normalised']}; "
        f"answers that ask {asking['mean']:.3f} (gain {asking['gain']['mean']:+.3f}, "
        f"{asking['gain']['low']:.3f} … {asking['gain']['high']:+.3f})",
        f"predicted and Gaussian {points['predicted']:.3f}, Base {points['none']:.3f}, "
        f"HAR {points['har']:.3f}, plane {points['plane']:.3f}, "
        f"HAR normalised {points['har-normalised']:.3f}",
    )


def test_the_study_of_feedback():
    results, page = stored_results(), record(12)
    rows, tried = cells(results), results["validation"]
    table = rows_of(page, "| kind | mAP |")
    best = {
        kind: max(v for k, v in tried.items() if k.startswith(kind)) for kind in ("mean", "max")
    }
    asked = [f"{tried[f'answers, n={n}']:.3f}" for n in (1, 2, 3, 5)]
    assert list(table.values()) == [
        [f"{asked[0]} ({', '.join(asked[1:])})"],
        *([f"{value:.3f}"] for value in (tried["oracle, λ=1"], *best.values(), tried["none"])),
    ]
    second = list(rows_of(page, "| second round, Base |").values())
    for found, scheme in zip(second, ("mean", "max", "oracle", "answers"), strict=True):
        row = rows["none", scheme]
        match = row["patch_match"]["feedback_gain"] if "patch_match" in row else None
        assert found == [gain(row["mAP"]["feedback_gain"]), gain(match) if match else ""], scheme


def test_the_leak_audit():
    results, page = stored_audit(), record(13)
    table = rows_of(page, "| learnt from | photos | mAP |")
    names = {"folds by query": "query folds", "folds by landmark": "landmark folds"}
    for name, found in table.items():
        row = results["arrangements"][names.get(name, name)]
        assert found == [f"{row['photos']:.0f}", interval(row["mAP_without_query"])], name
    paired = rows_of(page, "| paired difference | mAP | p |").values()
    for found, row in zip(paired, results["comparisons"].values(), strict=True):
        assert found[0] == gain(row)
        assert float(found[1]) == pytest.approx(row["p"], abs=10 ** -len(found[1][2:]) / 2)
    both = [
        " and ".join(f"{results['protocol'][by][habit]['mean']:+.3f}" for by in names.values())
        for habit in ("own photo counted", "fold-only database", "epoch chosen on the test")
    ]
    says(
        page,
        f"the own photo counted {both[0]}, a fold's own database instead of the whole {both[1]}, "
        f"the epoch chosen on the test fold {both[2]}",
        f"{results['trainings']} trainings",
    )


def test_robustness():
    results, page = stored_robustness(), record(13)
    table = rows_of(page, "| | base | planes |")
    places = {"scale": (1, 2, 3), "rotation": (1, 2, 3), "viewpoint": (2, 3, 4)}
    places |= {"illumination": (1, 3, 4), "occlusion": (1, 2, 3)}
    expected = [
        [
            " / ".join(f"{curves[name]['reciprocal_rank'][at][0]:.2f}" for at in places[factor])
            for name in results["methods"]
        ]
        for factor, curves in results["curves"].items()
    ]
    unchanged = results["curves"]["scale"]
    expected[:0] = [[f"{unchanged[name]['reciprocal_rank'][0][0]:.2f}" for name in unchanged]]
    assert list(table.values()) == expected
    says(page, f"{results['queries']} test queries, {results['others']} other photos")
    assert results["others"] == 60 and "among sixty of other things" in chapter(9)


def test_the_ablation():
    results, page = stored_ablation(), record(13)
    gains = {name: row["gain"] for name, row in results["rows"].items()}

    def sure(name: str) -> str:
        row = gains[name]
        assert row["low"] > 0 or row["high"] < 0, name
        form = ".3f" if row["low"] > 0 else "+.3f"
        return f"{abs(row['mean']):.3f} ({row['low']:{form}} … {row['high']:{form}})"

    def change(name: str) -> str:
        assert gains[name]["low"] <= 0 <= gains[name]["high"], name
        return f"{gains[name]['mean']:+.3f}"

    def step(name: str) -> str:
        return f"{rows[name]['ms_per_step']:.0f}"

    rows, mutual = results["rows"], "views: gradients, mutual"
    says(
        page,
        f"reference has {rows['reference']['mAP']['mean']:.3f} mAP; a finer grid "
        f"(11 × 11, query 8 × 8) gains {sure('grid 11 × 11, query 8 × 8')}, the flat layout "
        f"{sure('layout: flat')} and with twice the width {sure('layout: flat, width 16')}.",
        f"gain {sure('target through four places')} in the target and "
        f"{sure('query through four places')} in the query; a second scale gains nothing in either "
        f"({change('target at two scales')} and {change('query at two scales')}).",
        f"without colour gain {sure(mutual)}, slopes alone ({change('views: gradients')}) and "
        f"their zncc in their place ({change('views: zncc on gradients for gradients')})",
        f"The paper's four views lose {sure(FOUR)}, pixels' zncc for slopes "
        f"{sure('views: zncc, mutual, colour')}. With zncc and mutual matching beside the four "
        f"({change('views: the four, zncc, mutual')}), cosine alone ({change('views: cosine')}), "
        f"a coarser grid ({change('grid 6 × 6, query 4 × 4')}), the pivot layout "
        f"({change('layout: pivot')}) and asking with the aspect kept "
        f"({change('aspect kept when asked')}) have intervals",
        f"has {rows['architecture: planes']['mAP']['mean']:.3f} with "
        f"{rows['architecture: planes']['parameters']:,} parameters, where the 4-D reference has "
        f"{rows['reference']['parameters']:,}; the difference, "
        f"{change('architecture: planes')[1:]}, and that of both networks together, "
        f"{change('architecture: planes+resnet18')[1:]}, have intervals that hold zero.",
        f"takes the reference {step('reference')}, planes {step('architecture: planes')}, both "
        f"networks together {step('architecture: planes+resnet18')}, four places in the target "
        f"{step('target through four places')} and in the query "
        f"{step('query through four places')}, two scales {step('target at two scales')} and "
        f"{step('query at two scales')}, the finer grid {step('grid 11 × 11, query 8 × 8')}, the "
        f"flat layout {step('layout: flat')}, pivot {step('layout: pivot')}, and the paper's four "
        f"views {step(FOUR)}.",
        f"takes the reference {rows['reference']['ms_per_photo']}, four places in the target "
        f"{rows['target through four places']['ms_per_photo']} and in the query "
        f"{rows['query through four places']['ms_per_photo']}.",
        f"One step of 16 pairs took {results['paper-base']['ms_per_step'] / 1000:.1f} seconds",
    )
    (figure,) = (
        cell.metadata.mystnb
        for cell in notebook_cells(9)
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == "fig-ablation"
    )
    assert {name for name, row in gains.items() if row["low"] > 0} == {
        "grid 11 × 11, query 8 × 8",
        "layout: flat",
        "layout: flat, width 16",
        "target through four places",
        "query through four places",
        mutual,
    }
    says(
        figure.image.alt,
        "The finer grid, the two flat layouts, four places of the target or of the query, and "
        "gradients with the mutual view lie right of the line.",
    )


def test_the_comparison_of_methods():
    page = record(10)
    table = rows_of(page, "| method | Toytown test | Oxford sample | ms a query |")
    for name, found in table.items():
        test, oxford = (by.get(name) or by[f"{LITE}:{name}"] for by in (TEST, OXFORD))
        expected = [f"{score(r)} / {r['mAP_without_query']:.3f}" for r in (test, oxford)]
        expected += [f"{test['ms_per_query']:.0f}", f"{test['mb_per_image']:.3f}"]
        assert found == expected, name
    for name, found in rows_of(page, "| descriptor | Oxford sample, mAP").items():
        pooling = name.split(" ")[0].lower().replace("-", "")
        if name != "mean, squashed to 224 pixels":
            row = OXFORD[f"{LITE}:{pooling}"]
            assert found[:2] == [score(row), f"{row['mAP_without_query']:.3f}"], name


def test_the_descriptors_in_words():
    page = record(10)
    mAP = {
        where: {name.removeprefix(f"{LITE}:"): f"{r['mAP']:.3f}" for name, r in by.items()}
        for where, by in (("test", TEST), ("oxford", OXFORD))
    }
    test, oxford = mAP["test"], mAP["oxford"]

    def pair(name: str, kind: str) -> str:
        row = TEST[f"{LITE}:{name}"]["evidence"][kind]
        return f"{row['otsu_iou']:.3f} / {row['pixel_auc']:.3f}"

    def otsu(name: str) -> str:
        return f"{TEST[f'{LITE}:{name}']['evidence']['similarity']['otsu_iou']:.3f}"

    order = {"saliency": ("mean", "CroW", "GeM", "R-MAC", "MAC", "SPoC")}
    order["similarity"] = ("mean", "CroW", "GeM", "CAM+CroW", "MAC", "R-MAC", "SPoC")
    spoken = {
        kind: ", ".join(
            f"{name} {pair(name.lower().replace('r-mac', 'rmac').replace('+', '-'), kind)}"
            for name in names
        )
        for kind, names in order.items()
    }
    sift = TEST["sift-ransac"]["evidence"]["inliers"]
    says(
        page,
        f"As shipped it has {oxford['gem+whiten']}, and R-MAC {oxford['rmac+whiten']} instead of "
        f"{oxford['rmac']}",
        f"GeM goes from {test['gem']} to {test['gem+whiten']} and R-MAC, which whitens each "
        f"region, from {test['rmac']} to {test['rmac+whiten']}",
        f"falls on the Oxford sample from {oxford['gem']} to 0.687",
        f"from {otsu('gem')} to {otsu('gem+whiten')} (GeM) and from {otsu('rmac')} to "
        f"{otsu('rmac+whiten')} (R-MAC)",
        f"{test['cam-crow']} on Toytown test, {oxford['cam-crow']} on the Oxford sample",
        f"saliency of {spoken['saliency']}; similarity of {spoken['similarity']}; inliers of SIFT "
        f"{sift['otsu_iou']:.3f} / {sift['pixel_auc']:.3f}",
        f"GeM's similarity still has {pair('gem', 'similarity, other landmark')}",
        f"`siam-fv` {oxford['siam-fv']}, `non-metric` {oxford['non-metric']}, `deep-retrieval` "
        f"{oxford['deep-retrieval']} and the 4-D verifier {oxford[f'{LITE}/16:verifier']}, R-MAC "
        f"as it is {oxford['rmac']}",
    )


def test_scales_whitening_and_second_looks():
    page = record(10)
    for name, found in rows_of(page, "| descriptor | as it is | `+ms` |").items():
        pooling = f"{LITE}:{name.lower().replace('r-mac', 'rmac').replace('+', '-')}"
        both = [
            f"{TEST[pooling + option]['mAP']:.3f} / {OXFORD[pooling + option]['mAP']:.3f}"
            for option in ("", "+ms", "+whiten", "+ms+whiten")
        ]
        assert found == both, name
    for name, found in rows_of(page, "| method | Toytown test | Oxford sample |", rest="").items():
        pooling, option = name.replace(" as it is", ", ``").split(", ")
        method = f"{LITE}:{pooling.lower().replace('-', '')}+{option.strip('`')}".rstrip("+")
        assert found == [score(TEST[method]), score(OXFORD[method])], name
    for one in (TEST, OXFORD):
        raised = [name for name in one if name.endswith("+kreciprocal")]
        assert len(raised) == 9
        assert all(one[n]["mAP"] > one[n.removesuffix("+kreciprocal")]["mAP"] for n in raised)


def test_what_falls_below_the_mean_is_explained():
    """Descriptors of the same network, however they are whitened or scaled."""
    page = record(10)
    for by, known in (
        (TEST, []),
        (OXFORD, ["crow", "crow+whiten", "mean+ms", "mac+ms", "mean+whiten"]),
    ):
        mean = by[f"{LITE}:mean"]["mAP"]
        below = {
            name.removeprefix(f"{LITE}:"): result["mAP"]
            for name, result in by.items()
            if name.startswith(f"{LITE}:") and result["mAP"] < mean and not is_second_look(name)
        }
        learnt = {"siam-fv", "non-metric"}  # told apart under "Said plainly"
        assert set(below) - learnt == set(known)
        says(page, *(f"`{name}` {below[name]:.3f}" for name in known))


def test_the_verifiers():
    page = record(10)
    stored = json.loads(VERIFIED.read_text(encoding="utf-8"))
    tested = rows_of(page, "| | mAP (95 %) | without the query's photo |")
    learnt = rows_of(page, "| validation, mAP without the query's own photo |")
    names = {"untrained": "untrained", "trained": "network"}
    keys = {
        f"`{kind}`, {said}": f"{kind}, {key}"
        for kind in ("siam-fv", "non-metric", "deep-retrieval")
        for said, key in names.items()
    }
    keys["R-MAC, which the next two re-rank"] = f"{LITE}:rmac"
    keys["the 4-D verifier with random weights"] = "re-ranked, untrained"
    keys["the 4-D verifier"] = "re-ranked"
    for name, key in keys.items():
        assert tested[name] == [interval(v) for v in stored["rows"][key].values()], name
    gains = {name: gain(row) for name, row in stored["gains"].items()}
    surely = [name for name, row in stored["gains"].items() if row["low"] > 0]
    assert surely == [name for name in gains if not name.startswith("gem-learnt")]
    says(
        page,
        f"over R-MAC {gains[f're-ranked − {LITE}:rmac']}, over random weights "
        f"{gains['re-ranked − re-ranked, untrained']}",
        *(
            f"`{kind}` over its start {gains[f'{kind}, network − {kind}, untrained']}"
            for kind in ("siam-fv", "non-metric", "deep-retrieval")
        ),
    )
    for name in ("siam-fv", "non-metric", "deep-retrieval"):
        same = stored["rows"][f"{name}, network"]["mAP"]["mean"]
        assert TEST[f"{LITE}:{name}"]["mAP"] == pytest.approx(same, abs=1e-4)
        log = json.loads((WEIGHTS / f"{LITE}_{name}.log.json").read_text())["log"]
        looks = [entry["validation_map"] for entry in log if "validation_map" in entry]
        assert learnt[f"`{name}`"][:2] == [f"{looks[0]:.3f}", f"{max(looks):.3f}"], name
    log = json.loads((WEIGHTS / f"{LITE}_16_verifier.log.json").read_text())["log"]
    best = max(entry["validation_map"] for entry in log if "validation_map" in entry)
    assert learnt[f"`{LITE}/16:verifier` (16 of the 48 queries)"][:2] == ["", f"{best:.3f}"]
    row = TEST[f"{LITE}/16:verifier"]
    measures = "otsu_iou", "pixel_auc", "patch_match"
    combined = evidence(row["evidence"]["combined"], *measures)
    stem = evidence(row["evidence"]["hirescam, stem"], *measures)
    strange = evidence(row["evidence"]["combined, other landmark"], *measures)
    shares = {
        name: " / ".join(evidence(TEST[f"{LITE}:{name}"]["evidence"]["similarity"], *measures[:2]))
        for name in ("siam-fv", "non-metric", "deep-retrieval")
    }
    says(
        page,
        f"the 4-D verifier has {score(row, digits=3)}, {row['mAP_without_query']:.3f} without the",
        f"combined, Otsu IoU {combined[0]}, pixel AUC {combined[1]}, patch match {combined[2]}; "
        f"HiResCAM of the stem {', '.join(stem)}; for a query of another landmark {strange[0]} and "
        f"{strange[1]}",
        ", ".join(f"`{name}` {value}" for name, value in shares.items()),
    )


def test_the_shipped_network():
    page, base = record(7), TEST["base"]
    tested = rows_of(page, "| | mAP | 95 % interval | own photo left out |")

    def row_of(result: Any) -> list[str]:
        low, high = result["mAP_ci"]
        return [
            f"{result['mAP']:.3f}",
            f"{low:.3f} … {high:.3f}",
            f"{result['mAP_without_query']:.3f}",
        ]

    assert tested["seed 1 (shipped)"] == row_of(base)
    assert tested["mutual nearest patches, cosine"] == row_of(TEST["mutual-nn"])
    plain_ones = [row_of(TEST[name]) for name in ("colour-histogram", "thumbnail")]
    both = [f"{one} / {other}" for one, other in zip(*plain_ones, strict=True)]
    assert tested["colour histogram / thumbnail"] == [both[0], "", both[2]]
    sift = row_of(TEST["sift-ransac"])
    assert tested["SIFT + RANSAC"] == [sift[0], "", sift[2]]
    kinds = {
        "combined (default)": "combined",
        "HiResCAM of the stem": "hirescam, stem",
        "input × gradient": "input_gradient",
        "Eq. 3 as printed": "gradcam (Eq. 3, literal)",
        "combined, for a query of another landmark": "combined, other landmark",
        "the tensor's maximum, no network": "raw tensor, maximum",
        "centre Gaussian": "centre Gaussian",
        "all ones": "all ones",
        "the region itself, on the grid": "ceiling: RoI on the grid",
    }
    maps, measures = base["evidence"], ("mIoU", "otsu_iou", "pixel_auc", "patch_match")
    for name, found in rows_of(page, "| map | mIoU | Otsu IoU").items():
        assert found == evidence(maps[kinds[name]], *measures), name
    combined, oxford = maps["combined"], {n: f"{r['mAP']:.3f}" for n, r in OXFORD.items()}
    says(
        page,
        f"{combined['otsu_iou'] / maps['centre Gaussian']['otsu_iou']:.2f} times the Otsu IoU",
        f"By chance {combined['chance']:.3f} of the patch pairs are right; "
        f"{100 * combined['coverage']:.0f} % of the query patches",
        f"most evidence takes {combined['deletion']:.1f} off the margin",
        f"the fifth with least evidence {maps['combined, lowest fifth']['deletion']:.1f}",
        f"{OXFORD['base']['mAP']:.3f} mAP on the sample of the Oxford buildings "
        f"({OXFORD['base']['mAP_ci'][0]:.3f} … {OXFORD['base']['mAP_ci'][1]:.3f}; own photo left "
        f"out {OXFORD['base']['mAP_without_query']:.3f})",
        f"SIFT with RANSAC has {oxford['sift-ransac']}, nearest patches {oxford['mutual-nn']}, a "
        f"colour histogram {oxford['colour-histogram']} and a thumbnail {oxford['thumbnail']}",
    )


def test_planes():
    page, row = record(8), OXFORD["planes"]["evidence"]
    measures = "pixel_auc", "otsu_iou", "mIoU"
    ours, ones = (evidence(row[name], *measures) for name in ("planes", "all ones"))
    middle = evidence(row["centre Gaussian"], *measures)
    sift = evidence(OXFORD["sift-ransac"]["evidence"]["inliers"], *measures)
    mAP = {name: f"{result['mAP']:.3f}" for name, result in OXFORD.items()}
    said = [f"`{name}` {score(OXFORD[name], digits=3)}" for name in ("planes", "plane-net")]
    pools = {"GeM": "gem", "MAC": "mac", "CAM+CroW": "cam-crow", "SPoC": "spoc", "mean": "mean"}
    pooled = ", ".join(f"{title} {mAP[f'{LITE}:{name}']}" for title, name in pools.items())
    says(
        page,
        f"{', '.join(said)}, `plane-cascade` {mAP['plane-cascade']}, `sift-ransac` "
        f"{mAP['sift-ransac']} ({OXFORD['sift-ransac']['mAP_without_query']:.3f} without the own",
        f"R-MAC {mAP[f'{LITE}:rmac']}, whitened {mAP[f'{LITE}:rmac+whiten']}, {pooled}, CroW "
        f"{mAP[f'{LITE}:crow']}.",
        f"pixel AUC {ours[0]} (SIFT's inliers {sift[0]}, centre Gaussian {middle[0]}), Otsu IoU "
        f"{ours[1]} ({sift[1]}, {middle[1]}; all ones {ones[1]}), mIoU {ours[2]} ({sift[2]}; all "
        f"ones {ones[2]})",
    )
    second = "aqe", "diffusion", "kreciprocal"
    passes = [n for n in mAP if n.startswith(f"{LITE}:") and not any(word in n for word in second)]
    assert {f"{LITE}:rmac", f"{LITE}:rmac+whiten", f"{LITE}:gem+ms"} <= {*passes}
    best = max(mAP[name] for name in (*passes, "sift-ransac"))
    assert min(mAP["planes"], mAP["plane-net"]) > best


def test_the_network_over_planes_and_the_cascade():
    def precisions(name: str) -> dict[tuple[str, str, int], float]:
        return {(k.rsplit("_", 1)[0], k, 0): ap for k, ap in TEST[name]["AP"].items()}

    mean_, low, high = nested_bootstrap(precisions("plane-net"), precisions("planes"))
    says(record(16), f"{mean_:+.3f} ({low:.3f} … {high:.3f})", score(TEST["plane-net"], digits=3))
    says(chapter(13), f"adds {mean_:.3f} mAP", f"95 % interval {low:.3f} to {high:.3f}")
    cascade = OXFORD["plane-cascade"]
    says(record(16), f"it has {cascade['mAP']:.3f} in {cascade['ms_per_pair']:.1f} ms a pair")
    points = json.loads(CASCADE.read_text())["points"]
    chosen, whole = (
        next(p for p in points if (p["voted"], p["judged"]) == at)
        for at in ((VOTED, JUDGED), (1.0, 1.0))
    )
    half = next(p for p in points if (p["voted"], p["judged"]) == (1.0, HALF))
    says(
        record(16),
        f"it has {chosen['toytown']:.3f} in {chosen['ms']:.1f} ms a pair of all, where the network "
        f"on every pair has {whole['toytown']:.3f} in {whole['ms']:.1f}",
        f"validation half has {half['toytown']:.4f} and all {whole['toytown']:.4f}",
        f"test {TEST['plane-cascade']['mAP']:.3f} in {TEST['plane-cascade']['ms_per_pair']:.1f}, "
        f"where the network has {TEST['plane-net']['mAP']:.3f} in "
        f"{TEST['plane-net']['ms_per_pair']:.1f}",
    )


def test_planes_on_pairs_of_photos():
    stored = json.loads((CASCADE.parent / "smvs.json").read_text())
    table = rows_of(record(8), "| MRR | landmarks | book covers | paintings |")
    for name in ("planes-turned", "sift-ransac"):
        rows = {row["category"]: row for row in stored if row["method"] == name}
        cells = [rows[category] for category in ("landmarks", "book_covers", "museum_paintings")]
        assert table[f"`{name}`"] == [
            f"{row['MRR']:.3f} ({row['MRR_ci'][0]:.3f} … {row['MRR_ci'][1]:.3f})" for row in cells
        ]


def test_the_cost_of_the_runs_that_are_stored():
    runs = [json.loads(path.read_text()) for path in STORED_GRID.glob("*/results.json")]
    spent = [run["provenance"]["processor_seconds"] for run in runs]
    says(
        record(15),
        f"is {len(runs)} runs at one clean commit. They took {sum(spent):.0f} s of the processor, "
        f"{min(spent):.0f} to {max(spent):.0f} s a run",
    )
    assert len({run["provenance"]["commit"] for run in runs}) == 1


def test_the_paper_s_network_at_full_width():
    wide, grid = read_measured(STORED_PAPER)[0], read_measured(STORED_GRID)[0]
    ours, small = (one.cells["landmark", "none", "none"]["mAP"] for one in (wide, grid))
    (run,) = wide.runs
    says(
        record(15),
        f"for {run['config']['steps']} of the 5,000 steps",
        f"{run['provenance']['processor_seconds'] / 60:.0f} minutes of a processor in all",
        f"Its loss was {run['log'][-1]['loss']:.3f} at the end",
        f"with a mAP of {mean(ours.values()):.3f}, where the small network of the grid, on the "
        f"same queries, has {mean(small[key] for key in ours):.3f}",
    )


def test_what_runs_were_thought_to_cost():
    table, minutes = rows_of(record(15), "| | forecast | measured |"), 60
    for found, kind in zip(json.loads(FORECAST.read_text()), ("own core", "shared"), strict=True):
        rows = {
            f"processor, minutes: {kind}": ("processor_hours", minutes),
            f"clock, minutes: {kind}": ("hours", minutes),
        }
        if kind == "own core":
            rows["disk, MB"] = ("disk", 1e-6)
        for name, (key, unit) in rows.items():
            thought, took = found["forecast"][key] * unit, found["measured"][key] * unit
            assert table[name] == [f"{thought:.1f}", f"{took:.1f}", f"{thought / took:.2f}"], name


def test_what_chapters_quote_of_the_paper():
    paper = published("oxford5k")
    best, base = paper["Base+HAR"], paper["Base"]
    difference = best["mAP"] - base["mAP"]
    assert best["mAP_sd"] / difference > 30
    says(
        chapter(8),
        f"{difference:.2f} percentage points above Base",
        "more than thirty times as wide",
    )
    says(chapter(11), f"{best['mAP']} % on Oxford-5k")
    says(chapter(7), f"to the {parameter_count(load_network('base')):,}")


def test_planes_on_clicked_points():
    stored = json.loads((CASCADE.parent / "wxbs.json").read_text())
    page = record(8)
    for row in stored["rows"]:
        name = row["method"] if " " in row["method"] else f"`{row['method']}`"
        values = [row[key] for key in ("within_one", "within_two", "error")]
        shown = ["" if value is None else f"{value:.3f}" for value in values]
        line = " | ".join([f"| {name}", row["way"], *shown])
        assert line.rstrip() in page, line
    assert all(len(row["pairs"]) == 8 for row in stored["rows"])


def test_each_part_of_the_vote_by_itself():
    rows = {
        row["name"]: row
        for row in json.loads((CASCADE.parent / "ablation.json").read_text())["rows"]
    }

    def change(name: str) -> str:
        mean_, low, high = rows[name]["gain"]
        return f"{mean_:+.3f} ({low:+.3f} … {high:+.3f})"

    says(
        record(8),
        f"the whitening ({change('not whitened')}), the floor ({change('no floor')}), the "
        f"tolerance ({change('no tolerance')}) count",
        f"Quarters ({change('quarters count nothing')}) and chance "
        f"({change('chance counts nothing')}) taken away",
        f"barely ({change('neither quarters nor chance (before)')})",
        f"voters shared as well as patches ({change('voters shared, too')})",
    )
