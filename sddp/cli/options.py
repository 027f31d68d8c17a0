"""Options that commands share, their types, and the file that may hold them.

A command declares itself with `command`, which gives it ``--json``, ``--config`` and ``--quiet``;
``--seed``, ``--out`` and ``--resume`` are added by `add_seed`, `add_out` and `add_resume` where
they mean something.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from sddp.cli.output import Result
from sddp.errors import DataError

_N = TypeVar("_N", int, float)

# Where finished work is kept.
STORE = "results/store"

# Keys of options that a file may not hold: they say where the file is, or are no settings.
NOT_IN_A_FILE = {"help", "config", "version"}


class Help(argparse.HelpFormatter):
    """Paragraphs are filled to the terminal's width; indented lines stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = []
        for block in text.strip("\n").split("\n\n"):
            kept = any(line.startswith("  ") for line in block.splitlines())
            blocks.append(block if kept else super()._fill_text(block, width, indent))
        return "\n\n".join(blocks)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, and which knows its own path of commands."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def command(
    commands: Any,
    name: str,
    *,
    run: Callable[[argparse.Namespace], Result],
    summary: str,
    description: str,
    examples: Sequence[str],
) -> Parser:
    """Add a command to the object that ``add_subparsers`` returned.

    Parameters
    ----------
    commands : object
    name : str
    run : callable
        Takes the parsed options and returns the result.
    summary : str
        A few words for the list of commands.
    description : str
        What the command does, shown by its help.
    examples : sequence of str
        Command lines.
    """
    shown = "examples:\n" + "".join(f"  {example}\n" for example in examples)
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=shown,
        formatter_class=Help,
        allow_abbrev=False,
    )
    add_common(parser, run)
    return parser


def add_common(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], Result]
) -> None:
    """``--json``, ``--quiet`` and ``--config``; `run` takes the parsed options."""
    common = parser.add_argument_group("output")
    common.add_argument(
        "--json", metavar="FILE", help="also write the result to FILE as JSON; - is standard output"
    )
    common.add_argument("--quiet", action="store_true", help="no progress and no tables")
    common.add_argument(
        "--config", metavar="FILE.toml", help="take options from a file; those given here count"
    )
    parser.set_defaults(run=run)


def add_seed(parser: Any, default: int) -> None:
    """``--seed``."""
    parser.add_argument(
        "--seed",
        type=natural,
        default=default,
        metavar="N",
        help=f"seed of all random numbers (default {default})",
    )


def add_out(parser: Any, default: str | None) -> None:
    """``--out``: the folder of results."""
    said = f"default {default}" if default else "by default nothing is written"
    parser.add_argument(
        "--out",
        default=default,
        metavar="FOLDER",
        help=f"folder for tables, figures and run.json ({said}); replaced as a whole at the end",
    )


def add_resume(parser: Any, store: str = STORE) -> None:
    """``--resume``, ``--no-resume`` and ``--store``: finished work that is kept."""
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on from work that an interrupted run of the same settings and data has finished "
        "(default), or do all of it again",
    )
    parser.add_argument(
        "--store",
        default=store,
        metavar="FOLDER",
        help=f"folder that finished work is kept in (default {store})",
    )


@contextmanager
def store_of(options: argparse.Namespace) -> Iterator[str]:
    """Folder of finished work; with ``--no-resume`` one that is empty and goes at the end."""
    try:
        Path(options.store).mkdir(parents=True, exist_ok=True)
        fresh = tempfile.mkdtemp(prefix="afresh-", dir=options.store)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"--store {options.store}: cannot be written to ({reason}); name another folder"
        ) from error
    try:
        if options.resume:
            Path(fresh).rmdir()
        yield options.store if options.resume else fresh
    except KeyboardInterrupt as interrupt:
        if not options.resume:
            interrupt.__notes__ = ["nothing is kept, because of --no-resume"]
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; options that ``--config FILE.toml`` holds stand before those given.

    Raises
    ------
    DataError
        The file cannot be read, or holds a key that the command does not know.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    file = _config_file(given)
    if file is None:
        return parser.parse_args(given)
    chosen, path = _chosen(parser, given)
    if not path and _choices(parser):
        return parser.parse_args(given)  # which says that a command is missing
    known = {name for leaf in _leaves(parser) for name in _settings(leaf)}
    tokens = list(_tokens(_read(file), path, _settings(chosen), known, file))
    return parser.parse_args([*path, *tokens, *given[len(path) :]])


def positive(text: str) -> int:
    """An integer of at least 1."""
    return _number(text, int, lambda value: value >= 1, "a positive integer")


def natural(text: str) -> int:
    """An integer of at least 0."""
    return _number(text, int, lambda value: value >= 0, "an integer >= 0")


def non_negative(text: str) -> float:
    """A finite number of at least 0."""
    rule = "a number >= 0"
    return _number(text, float, lambda value: 0.0 <= value < float("inf"), rule)


def positive_number(text: str) -> float:
    """A finite number above 0."""
    rule = "a positive number"
    return _number(text, float, lambda value: 0.0 < value < float("inf"), rule)


def number(text: str) -> float:
    """A finite number."""
    return _number(text, float, lambda value: abs(value) < float("inf"), "a finite number")


def fraction(text: str) -> float:
    """A number strictly between 0 and 1."""
    return _number(text, float, lambda value: 0.0 < value < 1.0, "a number between 0 and 1")


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, float, lambda value: 0.0 <= value <= 1.0, "a number from 0 to 1")


def date(text: str) -> str:
    """A date, as YYYY-MM-DD."""
    from datetime import date as calendar_date

    try:
        return calendar_date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a date, YYYY-MM-DD") from error


def _number(text: str, kind: Callable[[str], _N], rule: Callable[[_N], bool], words: str) -> _N:
    try:
        value = kind(text)
        right = rule(value)
    except (ValueError, OverflowError):
        right = False
    if not right:
        raise argparse.ArgumentTypeError(f"{text!r}: must be {words}")
    return value


def _config_file(given: Sequence[str]) -> str | None:
    for position, token in enumerate(given):
        if token == "--":
            return None
        if token.startswith("--config="):
            return token.removeprefix("--config=")
        if token == "--config" and position + 1 < len(given):
            return given[position + 1]
    return None


def _chosen(
    parser: argparse.ArgumentParser, given: Sequence[str]
) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of the command that is named, and the words that name it."""
    path: list[str] = []
    choices = _choices(parser)
    while len(path) < len(given) and given[len(path)] in choices:
        parser = choices[given[len(path)]]
        path.append(given[len(path)])
        choices = _choices(parser)
    return parser, path


def _choices(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = _choices(parser)
    if not below:
        yield parser
    for child in below.values():
        yield from _leaves(child)


def _settings(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Options and arguments of a command by the key that a file uses: words joined by ``-``."""
    return {
        action.dest.replace("_", "-"): action
        for action in parser._actions
        if action.dest not in NOT_IN_A_FILE
    }


def _read(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"--config {file}: cannot be read ({error.strerror}); name a TOML file"
        ) from error
    except ValueError as error:  # no UTF-8, no TOML
        raise DataError(
            f"--config {file}: is no TOML file ({error}); write lines such as cvar-limit = 0.03"
        ) from error


def _tokens(
    content: Mapping[str, Any],
    path: Sequence[str],
    settings: Mapping[str, argparse.Action],
    known: set[str],
    file: str,
) -> Iterator[str]:
    """Command line of a file: its top level is for every command, a table for the one it names."""
    section: Any = content
    for word in path:
        section = section.get(word, {}) if isinstance(section, Mapping) else {}
    shared = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    for source, allowed in ((shared, known), (section, set(settings))):
        for key, value in source.items():
            name = key.replace("_", "-")
            if isinstance(value, Mapping) and source is section:
                raise DataError(
                    f"--config {file}: [{key}] stands inside a command; use key = value"
                )
            if name not in allowed:
                raise DataError(
                    f"--config {file}: key {key!r} is unknown; known are {sorted(settings)}"
                )
            if name in settings:
                yield from _option(settings[name], value, f"--config {file}: {key}")


def _option(action: argparse.Action, value: Any, where: str) -> Iterator[str]:
    values = value if isinstance(value, list) else [value]
    if any(isinstance(item, (list, Mapping)) for item in values):
        raise DataError(f"{where} = {value!r}: must be a text, a number, a date, true or false")
    if not action.option_strings:
        # A positional argument that the command line gives takes the place of this one.
        action.default = values[0] if action.nargs == "?" else action.default
        return
    name = action.option_strings[0]
    if isinstance(value, bool):
        flag = action.nargs == 0
        if not flag:
            raise DataError(f"{where} = {value}: must be a value, not true or false")
        negative = [text for text in action.option_strings if text.startswith("--no-")]
        yield from [name] if value else negative
    elif isinstance(action.nargs, (int, str)) and action.nargs != 0:
        yield from (name, *(str(item) for item in values))
    elif len(values) > 1 and not isinstance(action, argparse._AppendAction):
        raise DataError(f"{where} = {value!r}: must be one value")
    else:
        yield from (f"{name}={item}" for item in values)
