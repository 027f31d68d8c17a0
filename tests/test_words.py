"""Names follow `docs/glossary.md`: words that it retires occur in no name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for top in ("sddp", "experiments", "tests") for path in ROOT.glob(f"{top}/**/*.py")
)


def retired() -> set[str]:
    """Words in the table of retired identifiers of the glossary."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    table = text.partition("## Retired identifiers")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])}


def words(name: str) -> set[str]:
    """Words of an identifier or file name: `FeasibilityCut`, `feasibility_cut`."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def names(path: Path) -> Iterator[str]:
    """Names that a file gives to something, and its own."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def test_the_glossary_retires_words():
    assert {"crew", "news", "outlook", "kinked", "refuse", "promise", "journal"} <= retired()
    assert words("KinkedQp") | words("cost_free_POLICY") == {
        *("kinked", "qp", "cost", "free", "policy")
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_name_holds_a_retired_word(path):
    gone = retired()
    assert {name for name in names(path) if words(name) & gone} == set()
