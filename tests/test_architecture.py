"""The walls of the house: which room may import which, how large its parts may be.

The rules are those of the project's design notes. Imports are read from the source with `ast`,
those inside functions and under ``TYPE_CHECKING`` included.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for top in ("sddp", "experiments") for p in ROOT.glob(f"{top}/**/*.py"))
FINANCE = (
    *("allocation", "statistics", "portfolio", "bounds", "market", "estimation", "backtest"),
    *("evaluation", "reporting", "simulation", "live"),
)

# What each room may import of ours, in the order in which the rooms build on each other.
BASE = (
    "arrays",
    "errors",
    "files",
    "imports",
    "labels",
    "plain",
    "risk",
    "rng",
    "robust_risk",
    "threads",
)
SOLVER = ("highs", "lp", "lp_model", "lp_scaling", "silence")
ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "arrays": ("errors",),
    "imports": (),
    "files": (),
    "silence": (),
    "threads": (),
    "labels": ("arrays", "errors"),
    "dates": ("errors",),
    "rng": ("errors",),
    "risk": ("arrays", "errors"),
    "robust_risk": ("arrays", "errors", "risk"),
    "plain": ("imports",),
    "tables": ("dates", "errors", "labels"),
    "lp_model": ("arrays",),
    "lp_scaling": ("arrays", "lp_model"),
    "highs": ("arrays", "errors", "lp_model", "silence"),
    "lp": ("arrays", "errors", "highs", "lp_model", "lp_scaling"),
    "display": ("arrays", "risk"),
    "scenarios": ("arrays", "display", "errors", "labels"),
    "cache": ("errors", "files", "labels", "rng"),
    "studies": ("cache", "display", "errors", "labels", "plain", "threads"),
    "data": ("arrays", "dates", "errors"),
    "market": ("dates", "errors", "labels", "tables"),
    "statistics": (*BASE, "display", "scenarios"),
    "engine": (*BASE, *SOLVER, "display"),
    "allocation": (*BASE, "display", "engine", "lp", "scenarios"),
    "portfolio": (*BASE, "allocation", "display", "lp", "scenarios", "statistics"),
    "bounds": (*BASE, "allocation", "engine", "lp", "portfolio", "statistics"),
    "estimation": (
        *BASE,
        *("allocation", "cache", "dates", "market", "portfolio", "scenarios", "statistics"),
    ),
    "backtest": (
        *BASE,
        *("allocation", "cache", "dates", "display", "engine", "estimation", "market"),
        *("portfolio", "scenarios", "studies", "tables"),
    ),
    "simulation": (
        *BASE,
        *("allocation", "backtest", "dates", "display", "market", "portfolio", "scenarios"),
        *("statistics", "studies", "tables"),
    ),
    "evaluation": (
        *BASE,
        *("allocation", "backtest", "bounds", "cache", "dates", "estimation", "market"),
        *("simulation", "statistics", "tables"),
    ),
    "reporting": (*BASE, "backtest", "dates", "display", "evaluation", "tables"),
    "live": (
        *BASE,
        *("backtest", "cache", "dates", "display", "estimation", "evaluation", "market"),
        *("portfolio", "reporting", "tables"),
    ),
    "one_call": ("allocation", "engine", "errors", "labels", "rng", "statistics", "tables"),
}
# These know all rooms below them.
TOP = ("cli", "__main__")
FILES_IN_A_ROOM = 12
# Still to be sorted.
CROWDED = {
    *("experiments/autoregressive", "experiments/french", "experiments/brazil"),
}
LONGEST_MODULE, LONGEST_FUNCTION = 500, 60


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports: modules, and names out of them."""
    package = module_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            home = ".".join([*base, *([node.module] if node.module else [])])
            names |= {home, *(f"{home}.{alias.name}" for alias in node.names)}
    return names


IMPORTS = {module_name(path): imported(path) for path in SOURCES}


def reaches(module: str, *targets: str) -> list[str]:
    """Imports of a module that lie in one of the targets."""
    return sorted(
        name
        for name in IMPORTS[module]
        if any(name == target or name.startswith(f"{target}.") for target in targets)
    )


def room(*names: str) -> list[str]:
    """Modules of some rooms (those that exist)."""
    return [m for m in IMPORTS if any(m == n or m.startswith(f"{n}.") for n in names)]


def own(module: str) -> set[str]:
    """What a module imports of ours."""
    return set(reaches(module, "sddp", "experiments"))


def test_there_is_something_to_check():
    assert {"sddp.lp", "sddp.engine.training.train", "sddp.risk", "sddp.errors"} <= set(IMPORTS)
    assert "sddp.engine.policy.policy" in IMPORTS["sddp.engine.training.train"]
    assert "highspy" in IMPORTS["sddp.highs"]


def room_of(module: str) -> str:
    """Name of the room of a module of the package; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def rooms_imported(module: str) -> set[str]:
    """Rooms that a module imports from, its own left out."""
    names = (name for name in own(module) if name in IMPORTS or name.rpartition(".")[0] in IMPORTS)
    return {room_of(name) for name in names if name.startswith("sddp.")} - {room_of(module), ""}


@pytest.mark.parametrize("module", [m for m in room("sddp") if m != "sddp"])
def test_a_room_imports_only_the_rooms_of_its_line(module):
    if room_of(module) not in TOP:
        assert rooms_imported(module) <= set(ROOMS[room_of(module)])


def test_the_rooms_build_on_each_other_without_a_circle():
    known: set[str] = set()
    for name, below in ROOMS.items():
        assert set(below) <= known, f"{name} stands before {sorted(set(below) - known)}"
        known.add(name)
    assert known | set(TOP) == {room_of(module) for module in room("sddp")} - {""}


def test_no_room_has_more_than_twelve_files():
    """The folders of the engine are rooms of their own; `__init__.py` is not counted."""
    folders = {path.parent for path in SOURCES if path.parent != ROOT / "sddp"}
    counts = {f.relative_to(ROOT).as_posix(): len([*f.glob("[!_]*.py")]) for f in folders}
    assert {k for k, n in counts.items() if n > FILES_IN_A_ROOM} <= CROWDED


def test_errors_and_arrays_load_nothing_heavy():
    for module in ("sddp.errors", "sddp.arrays"):
        assert not reaches(module, "pyomo", "highspy", "hmmlearn", "pandas", "scipy")


def test_scenarios_and_labels_know_no_modeling_solver_or_fitting():
    for name in ("labels", "scenarios", "market", "tables"):
        for module in room(f"sddp.{name}"):
            assert not reaches(module, "pyomo", "highspy", "hmmlearn"), module


def test_risk_knows_numpy_arrays_and_errors_only():
    standard = set(sys.stdlib_module_names)
    for name in IMPORTS["sddp.risk"]:
        top = name.split(".")[0]
        assert top in standard | {"numpy", "sddp"}, name
        if top == "sddp":
            assert name.startswith(("sddp.arrays", "sddp.errors")), name


@pytest.mark.parametrize("module", room("sddp.statistics", "sddp.evaluation"))
def test_statistics_know_no_modeling_and_no_solver(module):
    assert not reaches(module, "pyomo", "highspy", "sddp.lp")


@pytest.mark.parametrize("module", room("sddp.engine", "sddp.lp", "sddp.risk", "sddp.scenarios"))
def test_the_engine_knows_no_finance(module):
    assert not reaches(module, *(f"sddp.{name}" for name in FINANCE))


SHELVES = (
    *("stage", "model", "value", "presolve", "subproblem", "compiled", "certificate", "policy"),
    "training",
)


@pytest.mark.parametrize("module", room("sddp.engine"))
def test_a_shelf_of_the_engine_imports_only_shelves_below_it(module):
    """What is stated, what training finds, linear programs, policies, training."""
    parts = module.split(".")
    if len(parts) > 3 and parts[2] in SHELVES:
        above = SHELVES[SHELVES.index(parts[2]) + 1 :]
        assert not reaches(module, *(f"sddp.engine.{shelf}" for shelf in above))


def test_statements_and_value_functions_solve_nothing():
    """What the user states, and what training finds, know no linear program's solution."""
    for module in room("sddp.engine.model", "sddp.engine.value"):
        assert not reaches(module, "sddp.lp.LinearProgram", "sddp.lp.solve_once", "sddp.highs")


def test_the_engine_names_no_asset():
    """Not in its code either; prose may say what the generality is for."""
    words = {"asset", "assets", "portfolio", "holdings", "wealth", "cash", "trade", "trades"}
    for module in room("sddp.engine"):
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if not path.exists():
            continue
        names = {
            part
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in _identifiers(node)
            for part in name.lower().split("_")
        }
        assert not names & words, (module, names & words)


def _identifiers(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name


def test_one_file_talks_to_highs():
    assert [m for m in IMPORTS if reaches(m, "highspy")] == ["sddp.highs"]


# What takes long to import and is not needed before a call asks for it.
FITTING = ("hmmlearn", "sklearn", "matplotlib", "joblib", "scipy.optimize", "scipy.stats")
UNLOADED = {
    "sddp.statistics": (*FITTING, "pyomo", "highspy"),
    "sddp.portfolio": (*FITTING, "pyomo", "sddp.engine"),
    "sddp.estimation": (*FITTING, "pyomo", "sddp.engine"),
    # Pyomo itself loads scipy.stats.
    "sddp.engine.training.train": ("hmmlearn", "sklearn", "matplotlib", "joblib"),
    "sddp.allocation.training": ("hmmlearn", "sklearn", "matplotlib", "joblib"),
    "sddp.backtest": ("hmmlearn", "sklearn", "matplotlib"),
}


@pytest.mark.parametrize("what", UNLOADED)
def test_a_room_loads_nothing_that_only_some_calls_need(what):
    code = f"import sys, {what}; print([m for m in {UNLOADED[what]!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", room("sddp.data", "sddp.dates", "sddp.market"))
def test_readers_of_tables_know_no_solver_and_no_fitting(module):
    assert not reaches(module, "pyomo", "highspy", "hmmlearn", "argparse")


def test_nothing_imports_experiments():
    for module in room("sddp"):
        assert not reaches(module, "experiments", "data", "tests"), module


def test_modules_do_not_import_in_circles():
    """Among modules at import time: what stands under TYPE_CHECKING or in functions is left out."""
    at_import = {module_name(path): _at_import(path) & set(IMPORTS) for path in SOURCES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for name in at_import[module] - {module}:
                visit(name, (*trail, module))
            done.add(module)

    for module in at_import:
        visit(module, ())


def _at_import(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            # ``from package import module`` needs the module, not the package's own names.
            names |= parts if parts <= set(IMPORTS) else parts | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_modules_are_under_500_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < LONGEST_MODULE


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_function_bodies_are_under_60_lines(path):
    """Docstrings not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length < LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("what", ["sddp", "sddp.cli"])
def test_importing_the_package_loads_nothing_heavy(what):
    heavy = ("numpy", "pyomo", "highspy", "pandas", "matplotlib", "scipy", "sddp.engine")
    code = (
        f"import sys, sddp, {what}; assert sddp.__version__; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert printed.stdout.strip() == "[]"


def test_everything_but_figures_and_pages_works_without_the_extra_report():
    rooms = [*ROOMS, "studies.record", "studies.tasks", "evaluation.summary", "bounds.inner"]
    imports = ", ".join(f"sddp.{name}" for name in rooms if name != "reporting")
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('matplotlib', 'jinja2', 'PIL'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        f"import {imports}\n"
        "import pandas as pd\n"
        "from sddp.backtest import EqualWeight, backtest\n"
        "from sddp.evaluation import summary\n"
        "prices = pd.DataFrame({'a': [1.0, 2, 3]}, pd.date_range('2020', periods=3))\n"
        "market = sddp.market.Market(prices)\n"
        "found = backtest(market, {'s': EqualWeight()}, start='2020', transaction_cost=0.0)\n"
        "print(len(summary(found)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "1"


def test_every_public_name_can_be_imported():
    import sddp

    for name in sddp.__all__:
        assert getattr(sddp, name).__doc__, name
    assert set(sddp.__all__) < set(dir(sddp))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sddp.nothing
