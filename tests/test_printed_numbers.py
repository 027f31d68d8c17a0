"""Numbers that the README prints are those of the committed results, and come out again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results" / "case_study_stocks" / "run.json"
INDUSTRIES = ROOT / "experiments" / "results" / "case_study" / "run.json"
# The packages that numbers come from; the others only draw, read or test.
COMPUTING = ("numpy", "scipy", "pandas", "pyomo", "highspy", "hmmlearn", "scikit-learn", "skfolio")


def readme_row(start: str = "| Twenty stocks:") -> str:
    """The README's row about a study."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(start)]
    return row


def printed(results: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Sharpe ratios, and the range of the realized CVaR in percent, as the README prints them."""
    sharpe = {name: f"{row['sharpe']:.2f}" for name, row in results["summary"].items()}
    policies = [name for name in sharpe if name.startswith("SDDP")]
    cvar = [100.0 * results["period_cvar"][name] for name in policies]
    return (
        [*(sharpe[name] for name in policies), sharpe["equal weights"]],
        [f"{min(cvar):.1f}", f"{max(cvar):.1f}"],
    )


def in_readme() -> tuple[list[str], list[str]]:
    """The same numbers as they stand in the README."""
    row = readme_row()
    sharpe = re.search(r"Sharpe ratios ([\d., ]+) with three seeds, ([\d.]+) of equal", row)
    cvar = re.search(r"CVaR over 5 days ([\d.]+) to ([\d.]+) %", row)
    assert sharpe, row
    assert cvar, row
    return [*sharpe[1].split(", "), sharpe[2]], [cvar[1], cvar[2]]


def locked_versions() -> dict[str, str]:
    """Versions of .ci/constraints.txt."""
    lines = (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(";")[0].split("==") for line in lines if "==" in line]
    return {name.strip(): number.strip() for name, number in pairs}


def test_the_lock_names_every_package_that_numbers_come_from():
    assert set(COMPUTING) <= set(locked_versions())


def test_the_readme_prints_the_committed_results():
    assert printed(json.loads(RESULTS.read_text(encoding="utf-8"))["results"]) == in_readme()


def check_industries(found: dict[str, Any]) -> None:
    """Check that the README's row about the industries prints these results."""
    row = readme_row("| Twelve industries,")
    names = ("SDDP", "held to the horizon", "one-step")
    calibrated, plain = [f"{name}, calibrated" for name in names], list(names)
    ratio = {name: f"{check['ratio']:.2f}" for name, check in found["checks"].items()}
    sharpe = {
        name: f"{line['sharpe']:.2f}" for name, line in found["summary"].items() if line["sharpe"]
    }
    several = "{} and {}".format
    for texts in (
        several(", ".join(ratio[n] for n in calibrated[:2]), ratio[calibrated[2]]) + " times",
        "without " + several(", ".join(ratio[n] for n in plain[:2]), ratio[plain[2]]),
        "Sharpe ratios "
        + several(", ".join(sharpe[n] for n in calibrated[:2]), sharpe[calibrated[2]]),
        f"equal weights {sharpe['equal weights']}",
        f"and {sharpe['equal weights at the limit, calibrated']} at the same limit",
        f"expected {100 * found['checks']['SDDP, calibrated']['expected']:.2f} % a month",
        f"earned {100 * found['checks']['SDDP, calibrated']['realized']:.2f} %",
    ):
        assert texts in row, texts
    numbers = r"difference in Sharpe ratio of -([\d.]+) \(-([\d.]+) to -([\d.]+)\)"
    behind = re.search(numbers, found["finding"])
    assert behind, found["finding"]
    assert f"by {behind[1]} ({behind[3]} to {behind[2]})" in row
    assert found["decisions"] == 578


def test_the_readme_prints_the_committed_results_of_the_industries():
    check_industries(json.loads(INDUSTRIES.read_text(encoding="utf-8"))["results"])


@pytest.mark.parametrize("results", [RESULTS, INDUSTRIES], ids=["stocks", "industries"])
def test_the_committed_results_come_from_the_locked_versions(results: Path):
    used = json.loads(results.read_text(encoding="utf-8"))["versions"]
    locked = locked_versions()
    assert {name: used[name] for name in used if name in locked} == {
        name: locked[name] for name in used if name in locked
    }


@pytest.mark.slow
def test_the_main_job_gives_the_printed_numbers_again(tmp_path: Path):
    locked = locked_versions()
    other = [f"{n} {version(n)}" for n in COMPUTING if version(n) != locked[n]]
    if other:
        pytest.skip(f"installed versions are not the locked ones: {', '.join(other)}")
    command = [sys.executable, "-m", "experiments.case_study"]
    options = ["--quiet", "--no-resume", "--jobs", "2"]
    places = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    done = subprocess.run(
        [*command, *options, *places], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    check_industries(json.loads(done.stdout))
