"""Exit codes of every command, and how an error becomes one sentence on standard error."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sddp.errors import SddpError

DONE: Final = 0
WRONG_INPUT: Final = 1  # an input, a model or a file is wrong, or there is no answer
WRONG_COMMAND_LINE: Final = 2  # argparse's own
INTERNAL_ERROR: Final = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count
READER_GONE: Final = 141  # 128 + SIGPIPE

WHAT_IS_KEPT: Final = "what was finished is kept"

# Packages of the extra "report".
REPORT: Final = ("matplotlib", "jinja2", "PIL")

# Set to anything, it shows where an internal error came from.
TRACE_VARIABLE: Final = "SDDP_TRACEBACK"


def guarded(
    work: Callable[[], int | None],
    *,
    interrupted: str = WHAT_IS_KEPT,
    explain: Callable[[str], str] = str,
) -> int:
    """Do the work of a command.

    Parameters
    ----------
    work : callable
        Returns the exit code where nothing goes wrong (None is 0).
    interrupted : str
        What Ctrl-C leaves behind, said where the interrupt has no notes of its own.
    explain : callable
        Puts an error of the library into the words of the command line.

    Returns
    -------
    int
        One of the codes of this module; the reason is on standard error.
    """
    try:
        with warnings_as_sentences():
            return work() or DONE
    except SddpError as error:
        return _fail(f"{type(error).__name__}: {explain(str(error))}", WRONG_INPUT)
    except KeyboardInterrupt as interrupt:
        notes = "; ".join(getattr(interrupt, "__notes__", ())) or interrupted
        return _fail(f"interrupted: {notes}", INTERRUPTED)
    except BrokenPipeError:
        _forget_standard_output()
        return READER_GONE
    except OSError as error:
        return _fail(_about_file(error), WRONG_INPUT)
    except ImportError as error:
        return _fail(
            f"the package {error.name} cannot be imported ({error}): install it with pip"
            + (", or sddp-allocation[report]" if error.name in REPORT else ""),
            WRONG_INPUT,
        )
    except MemoryError:
        return _fail(
            "not enough memory: reduce the number of scenarios, assets or stages", WRONG_INPUT
        )
    except Exception as error:
        return _fail(_internal(error), INTERNAL_ERROR)


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Show a warning by its words, without the line of code that it came from."""
    import warnings

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        say(f"{category.__name__}: {message}")

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = before


def say(text: str) -> None:
    """Print to standard error, if there is one that still listens."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):  # closed, full, or none at all
        return


def _fail(text: str, code: int) -> int:
    say(text)
    return code


def _about_file(error: OSError) -> str:
    place = f" {error.filename}" if error.filename is not None else ""
    reason = error.strerror or str(error)
    remedies = {
        errno.ENOSPC: "free some space, or write elsewhere with --out or --store",
        errno.EDQUOT: "free some space, or write elsewhere with --out or --store",
        errno.EACCES: "change its permissions, or name another file",
        errno.EROFS: "write elsewhere with --out or --store",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
    }
    remedy = remedies.get(error.errno or 0, "check the path")
    return f"DataError: the file{place} cannot be used: {reason}; {remedy}"


def _internal(error: Exception) -> str:
    if os.environ.get(TRACE_VARIABLE):
        traceback.print_exc(file=sys.stderr)
    last = traceback.extract_tb(error.__traceback__)[-1]
    notes = " ".join(getattr(error, "__notes__", ()))
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    return (
        f"internal error, please report: {type(error).__name__}: {error} {notes} ({where}); "
        f"{TRACE_VARIABLE}=1 in the environment shows the whole trace"
    )


def _forget_standard_output() -> None:
    """Point it nowhere: Python would complain about the lost reader when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
    finally:
        os.close(nowhere)
