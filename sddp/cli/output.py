"""What a command gives: its result on standard output alone, tables and notes beside it.

Standard output carries one JSON object and a line feed, whatever a library prints; where it is a
terminal, a table for people stands in its place. ``--json FILE`` also writes the JSON object to a
file (``-`` is standard output, on a terminal too). Everything else goes to standard error.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from sddp.cli.exit_codes import DONE, say
from sddp.errors import DataError
from sddp.files import written_whole

STANDARD_OUTPUT = "-"

# Characters of a line: where no terminal says, and at least.
WIDTH, NARROWEST = 100, 20


@dataclass(frozen=True)
class Result:
    """What came out of a command.

    Attributes
    ----------
    data : mapping
        The machine-readable result; see `as_json` for what it may hold.
    text : str, or callable
        The same for people: tables and sentences; or what makes it for a width in characters.
        Empty where JSON is for people too.
    code : int
        Exit code.
    """

    data: Mapping[str, Any]
    text: str | Callable[[int], str] = ""
    code: int = DONE


class ResultStream:
    """Standard output, kept for the result inside a ``with`` block.

    Whatever else is written to standard output meanwhile, by Python, by a library in C or by a
    process that is started, goes to standard error.
    """

    def __init__(self) -> None:
        self._given: TextIO | None = sys.stdout
        self._kept: int | None = None  # the file descriptor of standard output
        self._redirected = redirect_stdout(sys.stderr)

    def __enter__(self) -> ResultStream:
        if _descriptor(self._given) == 1:
            assert self._given is not None
            self._given.flush()
            self._kept = os.dup(1)
            _point_to_error(1)
        self._redirected.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._redirected.__exit__(kind, error, trace)
        if self._kept is not None:
            os.dup2(self._kept, 1)
            os.close(self._kept)
            self._kept = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it."""
        if self._kept is not None:
            return os.isatty(self._kept)
        return self._given is not None and self._given.isatty()

    @property
    def width(self) -> int:
        """Characters of a line: of the terminal that a person reads, or `WIDTH`."""
        for stream in (1 if self._kept is None else self._kept, 2):
            with suppress(OSError):
                return max(os.get_terminal_size(stream).columns, NARROWEST)
        return WIDTH

    def write(self, text: str) -> None:
        """Write the result.

        Raises
        ------
        OSError
            `BrokenPipeError` where the reader has gone; a full disk.
        """
        if self._given is None:
            return
        if self._kept is None:
            self._given.write(text)
            self._given.flush()
            return
        rest = text.encode(self._given.encoding or "utf-8", errors="backslashreplace")
        while rest:
            rest = rest[os.write(self._kept, rest) :]


def deliver(result: Result, stream: ResultStream, *, json_file: str | None, quiet: bool) -> None:
    """Hand over the result of a command.

    Raises
    ------
    DataError
        ``--json`` names a file that cannot be written.
    OSError
        Standard output cannot be written to.
    """
    text = as_json(result.data) + "\n"
    if json_file is not None and json_file != STANDARD_OUTPUT:
        _write_file(json_file, text)
    to_terminal = stream.is_terminal and json_file != STANDARD_OUTPUT
    wanted = to_terminal or not quiet
    shown = result.text if isinstance(result.text, str) or not wanted else result.text(stream.width)
    if shown and to_terminal:
        stream.write(f"{shown}".rstrip("\n") + "\n")
        return
    if shown and wanted:
        say(f"{shown}".rstrip("\n"))
    stream.write(text)


@contextmanager
def shown_iterations(total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Progress of a training: a callable that takes the iterations done."""
    from sddp.display.progress import ProgressDisplay

    display = ProgressDisplay(total, "iteration", wanted=not quiet)
    try:
        yield display.update
    finally:
        display.close()


@contextmanager
def shown_log(*, quiet: bool) -> Iterator[None]:
    """What the library logs, on standard error: quietly its warnings alone."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger, handler = logging.getLogger("sddp"), Lines()
    before, logger.propagate = logger.level, False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = True


def filled(lines: Iterable[str], width: int) -> str:
    """Sentences, each filled to a width."""
    return "\n".join(textwrap.fill(line, width) for line in lines)


def as_json(data: Any) -> str:
    """One line of JSON: numbers of numpy, dates and paths included; what is not finite is null."""
    return json.dumps(plain(data), allow_nan=False)


def plain(data: Any) -> Any:
    """Words of JSON for a value, a mapping or a sequence of values.

    >>> plain({"a": (1, float("nan")), 2: None})
    {'a': [1, None], '2': None}
    """
    if data is None or isinstance(data, (bool, int, str)):
        return data
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if hasattr(data, "tolist"):  # numbers and arrays of numpy
        return plain(data.tolist())
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    if hasattr(data, "isoformat"):
        return data.isoformat() if data == data else None  # NaT is unequal to itself
    return str(data)


def check_file(name: str | None) -> None:
    """Find out before the work begins that ``--json FILE`` cannot be written.

    Raises
    ------
    DataError
        Its folder is missing or no folder, or a folder stands in its place.
    """
    if name is None or name == STANDARD_OUTPUT:
        return
    target = Path(name)
    try:
        reason = "is a folder" if target.is_dir() else ""
        reason = reason or ("" if target.parent.is_dir() else f"{target.parent} is no folder")
    except ValueError as error:  # a name that no file can have
        reason = str(error)
    if reason:
        raise DataError(f"--json {name}: cannot be written ({reason}); name another file")


def _write_file(name: str, text: str) -> None:
    target = Path(name)
    try:
        if target.exists() and not (target.is_file() or target.is_dir()):
            target.write_text(text, encoding="utf-8")  # a pipe or a device stays what it is
            return
        with written_whole(target) as beside:
            beside.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"--json {name}: cannot be written ({reason}); name another file"
        ) from error


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return None


def _point_to_error(descriptor: int) -> None:
    try:
        os.dup2(2, descriptor)
    except OSError:  # standard error is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
