"""Every study in a process of its own: standard output is its result alone, as one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import pytest

from sddp.cli import options as opt
from sddp.cli import study as studies
from tests.cli import small

# Arguments that make a small run smaller.
STUDIES = {
    "agents": (),
    "autoregressive": (),
    "benchmarks": ("bunching",),
    "brazil": ("--rows", "6"),
    "french": ("--only", "rolling", "--rows", "6"),
    "fuzz": ("engine", "--problems", "2"),
    "horizon": (),
    "inner_bound": (),
    "live": ("--rows", "80"),
    "one_period": ("--data", "nowhere"),
}
# The main job with the data of the study, and one command under another name: `sddp` tests them.
COMMANDS_OF_SDDP = {"case_study", "solve_instance"}

SHARED = {
    *("--quick", "--seed", "--jobs", "--out", "--resume", "--no-resume", "--store"),
    *("--json", "--quiet", "--config", "--help"),
}


def command(name: str):
    module = f"experiments.{name}"
    if (small.ROOT / "experiments" / name).is_dir():
        module += ".__main__"
    return import_module(module)


def test_every_study_is_tested():
    folder = small.ROOT / "experiments"
    found = {path.parent.name for path in folder.glob("*/__main__.py")}
    found |= {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text()}
    assert found == set(STUDIES) | COMMANDS_OF_SDDP


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_takes_the_options_that_all_share(name):
    study = command(name).STUDY
    options = {text for a in studies.parser(study)._actions for text in a.option_strings}
    assert options >= SHARED
    assert ("--replot" in options) == (study.plot is not None)


@pytest.mark.parametrize("name", STUDIES)
def test_the_seed_and_a_quick_run_are_settings(name):
    study = command(name).STUDY
    campaign = ["engine"] if name == "fuzz" else []

    def settings(*arguments: str):
        return study.settings(opt.parse(studies.parser(study), [*campaign, *arguments]))

    plain, other = settings(), settings("--seed", "77")
    assert "77" in str(other)
    assert plain != other
    assert settings("--quick") != plain


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_standard_output_is_one_json_object(name, tmp_path):
    found = subprocess.run(
        [
            *(sys.executable, "-m", f"experiments.{name}", *STUDIES[name], "--quick"),
            *("--jobs", "1", "--json", "result.json"),
        ],
        cwd=tmp_path,
        env=small.environment(),
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stderr.decode()
    assert found.stdout.count(b"\n") == 1
    result = json.loads(found.stdout)
    assert result["status"] == "complete"
    assert (tmp_path / "result.json").read_bytes() == found.stdout
    out = tmp_path / result["out"]
    record = json.loads((out / "run.json").read_text())
    assert set(record["results"]) == set(result) - {"status", "out"}
    assert sorted(record["files"]) == sorted(p.name for p in out.iterdir() if p.name != "run.json")
    # For people, tables and the place of the rest; no code.
    assert f"run.json: {result['out']}".encode() in found.stderr
    assert b"Traceback" not in found.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.json", "results"]


def test_a_committed_result_is_not_replaced_by_a_quick_run(capsys):
    out = str(small.ROOT / "experiments" / "results" / "brazil")
    assert command("brazil").main(["--quick", "--out", out]) == 1
    assert "holds committed results, which --quick does not replace" in capsys.readouterr().err


def test_without_a_finished_run_there_is_nothing_to_draw(tmp_path, capsys):
    nowhere = tmp_path / "nothing"
    assert command("inner_bound").main(["--replot", "--out", str(nowhere)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "holds no finished run; name its folder with --out" in printed.err
    assert not nowhere.exists()


def test_options_may_stand_in_a_file(tmp_path):
    (tmp_path / "options.toml").write_text('seed = 9\njobs = 1\nonly = "rolling"\nquick = true\n')
    study = command("french").STUDY
    given = ["--config", str(tmp_path / "options.toml"), "--seed", "3"]
    options = opt.parse(studies.parser(study), given)
    assert (options.seed, options.jobs, options.only, options.quick) == (3, 1, "rolling", True)
