"""The plan of the house: what stands where, who may import whom, and how large it may grow."""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "indiret"
CORE = (
    *("images", "patches", "metrics", "correlation", "conv4d", "attention", "architectures"),
    *("network", "checkpoints", "pairs", "training", "distributed", "evidence", "retrieval"),
    "feedback",
)
# A wing imports from those before it. `images` stands before all: it imports nothing of indiret.
ORDER = (
    {"images"},
    {"datasets"},
    {"evaluation"},
    set(CORE) - {"images"},
    {"planes", "baselines"},
    {"index"},
    {"experiments", "exercises"},
    {"figures"},
    {"reports", "widgets"},
    {"cli"},
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if "data" not in path.relative_to(PACKAGE).parts
)


def unit(path: Path) -> str:
    """The wing or the core's file that a path belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """The wings and core files that a file imports, wherever in it, in whatever form."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parent.parts
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {f"{module}.{name.name}" for name in node.names}
    return {name.split(".")[1] for name in found if name.startswith("indiret.")} & RANK.keys()


ROOMS = [path for path in FILES if unit(path) not in ("__init__", "__main__")]


def test_the_top_of_the_package_is_the_method():
    assert {path.stem for path in PACKAGE.glob("[a-z]*.py")} == set(CORE)
    wings = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert wings <= RANK.keys() - set(CORE)


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = unit(path)
    for other in imported(path) - {own}:
        before = RANK[other] < RANK[own] or (other in CORE and own in CORE)
        assert before, f"{own} may not import {other}"


def test_the_core_has_no_circle():
    graph = {name: imported(PACKAGE / f"{name}.py") & set(CORE) for name in CORE}
    assert len(list(TopologicalSorter(graph).static_order())) == len(CORE)


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_pages_and_pictures_draw(path):
    if unit(path) not in ("figures", "reports", "widgets"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        assert not [name for name in names if name.partition(".")[0] == "matplotlib"]


def test_the_library_loads_little():
    heavy = ("matplotlib", "pandas", "dask", "distributed", "cv2", "anywidget", "sklearn", "scipy")
    code = f"""
import sys, indiret
print(*[name for name in sys.modules if name == "torch" or name.startswith("indiret.")])
indiret.build_retriever("base")
print(*[name for name in {heavy} + ("indiret.baselines", "indiret.planes") if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert shown.stdout == "\n\n", shown.stdout + shown.stderr


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_says_what_it_is(path):
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert said and len(said.splitlines()[0]) <= 100


def test_a_public_name_stands_in_one_place():
    places = defaultdict(list)
    for path in ROOMS:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names = [node.target.id]
            for name in names:
                if not name.startswith("_") and path.name != "__init__.py":
                    places[name].append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


# The most lines of Python of each wing and of its tests, so that no wing grows behind another.
# Who makes one smaller lowers its numbers; who raises one says why in book/decisions/0017.
CEILINGS = {
    "core": (4280, 5160),
    "datasets": (2215, 2015),
    "evaluation": (1150, 850),
    "planes": (3120, 1825),
    "baselines": (2740, 2125),
    "index": (2200, 1200),
    "experiments": (3720, 1835),
    "exercises": (1450, 190),
    "figures": (765, 240),
    "reports": (430, 240),
    "widgets": (1235, 2520),
    "cli": (1390, 1085),
    "tools": (0, 890),
}
MAX_SCRIPTS = 216_000  # bytes of all JavaScript; that of one page has a test of its own


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def lines_by_wing(folder: Path, paths) -> Counter:
    """Lines of files by the folder that they lie in; what lies in none is of the core."""
    found = Counter()
    for path in paths:
        wing, *inside = path.relative_to(folder).parts
        found[wing if inside else "core"] += count_lines(path)
    return found


def test_no_wing_outgrows_its_ceiling():
    library = lines_by_wing(PACKAGE, ROOMS)
    tests = lines_by_wing(ROOT / "tests", (ROOT / "tests").rglob("*.py"))
    for which, sizes in enumerate((library, tests)):
        most = {wing: ceilings[which] for wing, ceilings in CEILINGS.items()}
        assert {wing: n for wing, n in sizes.items() if n > most.get(wing, 0)} == {}


def test_no_file_is_long():
    scripts = [*PACKAGE.rglob("*.js")]
    assert {path.name for path in (*FILES, *scripts) if count_lines(path) > 450} == set()
    assert sum(path.stat().st_size for path in scripts) <= MAX_SCRIPTS


def test_tests_mirror_the_library():
    """A test of the library lies in the folder of its wing; each wing has one."""
    wings = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert wings <= {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} <= wings | {"tools"}
