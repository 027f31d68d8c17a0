"""Options, the file that may hold them, and how errors of both are said."""

from __future__ import annotations

import argparse

import pytest

from sddp import cli
from sddp.cli import options as opt
from sddp.cli.settings import OPTION_OF, REMEDIES, by_option
from sddp.errors import DataError


def parsed(tmp_path, text: str, *arguments: str) -> argparse.Namespace:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return opt.parse(cli.parser(), ["backtest", "--config", str(file), *arguments])


def test_a_file_gives_options_and_the_command_line_counts(tmp_path):
    text = """
    seed = 4
    [backtest]
    prices = "mine.csv"
    cvar-limit = 0.02
    cvar_confidence = 0.95
    start = 2015-01-31
    quiet = true
    resume = false
    without = ["A", "B"]
    [train]
    stages = 99
    """
    options = parsed(tmp_path, text, "--cvar-limit", "0.01")
    assert (options.prices, options.seed, options.cvar_limit) == ("mine.csv", 4, 0.01)
    assert (options.cvar_confidence, options.start) == (0.95, "2015-01-31")
    assert (options.quiet, options.resume, options.stages) == (True, False, None)
    assert options.without == ["A", "B"]
    assert parsed(tmp_path, text, "other.csv").prices == "other.csv"


def test_what_is_common_may_stand_at_the_top_for_commands_that_know_it(tmp_path):
    assert parsed(tmp_path, "holdings = 'h.csv'\nwindow = 100\n").window == 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("windw = 3", r"key 'windw' is unknown; known are \["),
        ("[backtest]\nholdings = 'h.csv'", "key 'holdings' is unknown"),
        ("[backtest]\nwindow = [[1]]", r"window = \[\[1\]\]: must be a text"),
        ("[backtest]\nwindow = [1, 2]", r"must be one value"),
        ("[backtest]\nwindow = true", "must be a value"),
        ("[backtest.window]\nx = 1", r"\[window\] stands inside a command"),
        ("window = = 3", "is no TOML file"),
        ("\x00", "is no TOML file"),
    ],
)
def test_files_that_make_no_sense(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        parsed(tmp_path, text)


def test_a_value_of_a_file_is_checked_as_one_of_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(tmp_path, "[backtest]\nwindow = 0")
    assert stopped.value.code == 2
    assert "argument --window: '0': must be a positive integer" in capsys.readouterr().err


def test_a_file_that_cannot_be_read(tmp_path, capsys):
    assert cli.main(["backtest", "--config", str(tmp_path)]) == 1
    assert "--config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (opt.positive, ("1", "7"), ("0", "-1", "1.5", "x", "", "nan", "9" * 5000)),
        (opt.natural, ("0", "7"), ("-1", "1e3")),
        (opt.number, ("-1.5", "1e3"), ("nan", "inf", "x", "")),
        (opt.non_negative, ("0", "1.5"), ("-0.1", "nan", "inf")),
        (opt.positive_number, ("0.5",), ("0", "nan", "inf")),
        (opt.fraction, ("0.5",), ("0", "1", "90", "nan")),
        (opt.date, ("2020-02-29",), ("2021-02-29", "01/02/2020", "x")),
    ],
)
def test_types_of_options(kind, good, bad):
    for text in good:
        kind(text)
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="must be"):
            kind(text)


def test_every_remedy_exists_as_an_option():
    known = {
        text
        for leaf in opt._leaves(cli.parser())
        for action in leaf._actions
        for text in action.option_strings
    }
    assert {*OPTION_OF.values(), *REMEDIES.values()} <= known


def test_an_error_of_the_library_is_said_by_options():
    said = "cvar_limit = 5; give a fraction"
    assert by_option(said, {"--cvar-limit"}) == "--cvar-limit 5; give a fraction"
    assert by_option(said, ()) == said
    assert by_option("windows = 5", {"--window"}) == "windows = 5"


def test_every_command_has_help_with_an_example_and_its_common_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for leaf in opt._leaves(cli.parser()):
        shown = leaf.format_help()
        assert "examples:" in shown, leaf.prog
        for option in ("--json", "--config", "--quiet"):
            assert option in shown, leaf.prog
