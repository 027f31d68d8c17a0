"""The command ``sddp``.

One file per command, with two functions: ``add_parser(commands)`` declares its options (see
`sddp.cli.options.command`), ``run(options)`` does the work and returns a
`sddp.cli.output.Result`. A command file imports what it runs inside `run`, so that
``sddp --help`` answers at once.

Standard output carries the result and nothing else, see `sddp.cli.output`; exit codes are those
of `sddp.cli.exit_codes`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import sddp
from sddp.cli import backtest, data, decide, solve, train
from sddp.cli.exit_codes import guarded
from sddp.cli.options import Help, Parser, parse
from sddp.cli.output import ResultStream, check_file, deliver
from sddp.cli.settings import by_option

COMMANDS = (backtest, train, decide, solve, data)

EPILOG = """\
Standard output carries the result alone: JSON, or a table where it is a terminal.
Progress, notes and errors go to standard error.

exit codes:
  0    done
  1    an input, a model or a file is wrong, or there is no answer; the reason is printed
  2    the command line is wrong
  70   internal error, please report
  130  interrupted by Ctrl-C; what was finished is kept
  141  the reader of standard output has gone
"""


def parser() -> Parser:
    """Parser of the whole command line."""
    top = Parser(
        prog="sddp",
        description="Multi-stage asset allocation under risk limits, trading costs and market "
        "regimes, by stochastic dual dynamic programming.",
        epilog=EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"sddp {sddp.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `sddp.cli.exit_codes`)."""
    return execute(lambda: parse(parser(), arguments))


def execute(parsed: Callable[[], argparse.Namespace]) -> int:
    """Parse, run the command that was parsed, deliver its result; returns the exit code."""
    known: set[str] = set()  # options of the command

    def work() -> int:
        options = parsed()
        known.update("--" + name.replace("_", "-") for name in vars(options))
        run: Callable[[argparse.Namespace], Any] = options.run
        check_file(options.json)
        with ResultStream() as stream:
            result = run(options)
            deliver(result, stream, json_file=options.json, quiet=options.quiet)
        return int(result.code)

    return guarded(work, explain=lambda text: by_option(text, known))
