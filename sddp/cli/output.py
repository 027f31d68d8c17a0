"""What a command gives: its result on standard output alone, tables and notes beside it.

Standard output carries one JSON object and a line feed, whatever a library prints; where it is a
terminal, a table for people stands in its place. ``--json FILE`` also writes the JSON object to a
file (``-`` is standard output, on a terminal too). Everything else goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from sddp.cli.exit_codes import DONE, say
from sddp.errors import DataError
from sddp.files import written_whole

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Result:
    """What came out of a command.

    Attributes
    ----------
    data : mapping
        The machine-readable result; see `as_json` for what it may hold.
    text : str
        The same for people: tables and sentences. Empty where JSON is for people too.
    code : int
        Exit code.
    """

    data: Mapping[str, Any]
    text: str = ""
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
    if stream.is_terminal and json_file != STANDARD_OUTPUT and result.text:
        stream.write(result.text.rstrip("\n") + "\n")
        return
    if result.text and not quiet:
        say(result.text.rstrip("\n"))
    stream.write(text)


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


def columns(default: int = 100) -> int:
    """Width of the terminal that a person reads on."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            assert stream is not None
            return max(os.get_terminal_size(stream.fileno()).columns, 20)
    return default


def _write_file(name: str, text: str) -> None:
    try:
        with written_whole(Path(name)) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
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
