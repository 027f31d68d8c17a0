"""Without the extra ``report`` every command works, and says what it has not drawn."""

from __future__ import annotations

import json

import pytest

from sddp.cli.exit_codes import REPORT
from tests.cli import small

# As where the packages are not installed.
CODE = f"""
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {REPORT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
from sddp import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return small.folder(tmp_path_factory.mktemp("bare"))


def answer(where, *arguments: str):
    found = small.run(*arguments, where=where, code=CODE)
    assert found.returncode == 0, found.stderr.decode()
    return json.loads(found.stdout), " ".join(found.stderr.decode().split())


@pytest.mark.long
def test_backtest_train_and_decide_write_tables(where):
    _, said = answer(where, "backtest", "prices.csv", *small.MODEL, *small.WALK, "--out", "b")
    assert "figures and report.html: not written; pip install 'sddp-allocation[report]'" in said
    assert (where / "b" / "summary.csv").exists()
    assert not [p for p in (where / "b").iterdir() if p.suffix in (".png", ".html")]
    answer(where, "train", "prices.csv", *small.MODEL, "--out", "policy")
    held = ("--holdings", "holdings.csv")
    found, said = answer(where, "decide", "prices.csv", "--policy", "policy", *held, "--out", "d")
    assert found["orders"]
    assert "decision.html: not written" in said
    assert sorted(p.name for p in (where / "d").iterdir()) == [
        *("decision.json", "orders.csv", "run.json"),
    ]


@pytest.mark.long
def test_the_other_commands_draw_nothing(where):
    answer(where, "solve", "instance.json")
    answer(where, "data", "check", "prices.csv", "--html", "report.html")
    assert "</html>" in (where / "report.html").read_text()
