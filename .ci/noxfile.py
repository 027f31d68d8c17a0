"""Tasks of this project.

``nox -f .ci/noxfile.py`` runs the fast tests, ``nox -f .ci/noxfile.py -l`` lists the tasks. Each
task has a virtual environment of its own; ``-R`` uses it again without installing.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parents[1]
LOCK = ".ci/constraints.txt"
FAST = ("-m", "not slow and not long", "-n", "auto")
PYTHONS = ("3.11", "3.12", "3.13")

nox.options.sessions = ["fast"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False


@nox.session
def fast(session: nox.Session) -> None:
    """Fast tests on the locked versions."""
    _install(session, "-c", LOCK)
    session.run("pytest", *FAST, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, format and types on the locked versions."""
    _install(session, "-c", LOCK)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def everything(session: nox.Session) -> None:
    """Every test, the slow ones too, on the locked versions."""
    _install(session, "-c", LOCK)
    session.run("pytest", "-m", "", "-n", "auto", "--durations=10", *session.posargs)


@nox.session
def floors(session: nox.Session) -> None:
    """Fast tests on the lowest versions that pyproject.toml admits, and the oldest Python."""
    lowest = Path(session.create_tmp()).resolve() / "floors.txt"
    lowest.write_text("\n".join(_floors()) + "\n", encoding="utf-8")
    _install(session, "-c", str(lowest))
    session.run("pytest", *FAST, *session.posargs)


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """Fast tests on today's newest versions, on each Python."""
    _install(session, "--upgrade")
    session.run("pytest", *FAST, *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """The built wheel, outside of the checkout: it holds `sddp` alone, every command answers."""
    session.chdir(ROOT)
    session.install("build")
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder), silent=True)
    built = max(folder.glob("*.whl"), key=lambda file: file.stat().st_mtime)
    session.install("-c", LOCK, "--force-reinstall", "--no-deps", str(built))
    session.install("-c", LOCK, f"{built}[report]")
    session.chdir(folder)
    session.run("python", str(ROOT / ".ci" / "check_wheel.py"))


@nox.session
def benchmarks(session: nox.Session) -> None:
    """All benchmarks: some 20 minutes on a quiet machine."""
    _install(session, "-c", LOCK)
    session.run("python", "-m", "experiments.benchmarks", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, without a network; every warning is an error (docs/_build)."""
    session.chdir(ROOT)
    session.install("-c", LOCK, ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build")


@nox.session
def lock(session: nox.Session) -> None:
    """Write .ci/constraints.txt anew from today's newest versions."""
    session.chdir(ROOT)
    session.install("uv")
    head = "".join(_comments(ROOT / LOCK))
    session.run(
        *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", PYTHONS[0]),
        *("--all-extras", "--no-header", "--no-annotate", "--upgrade"),
        *("--output-file", LOCK, "pyproject.toml"),
    )
    path = ROOT / LOCK
    path.write_text(head + path.read_text(encoding="utf-8"), encoding="utf-8")


def _install(session: nox.Session, *options: str) -> None:
    session.chdir(ROOT)
    session.install(*options, ".[test]")


def _floors() -> list[str]:
    """Every ``name>=version`` of pyproject.toml as ``name==version``."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    pairs = [name.split(">=") for name in wanted if ">=" in name]
    return [f"{name.split('[')[0]}=={version}" for name, version in pairs]


def _comments(path: Path) -> list[str]:
    return [
        line
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.startswith("#")
    ]
