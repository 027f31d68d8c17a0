"""Atomic writing of files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Temporary file that replaces `target` if the block succeeds, and is removed otherwise.

    The file is opened before the block runs, so that a place which cannot be written to is found
    before work is put into what it would hold. A process that is killed leaves the old file.

    Raises
    ------
    OSError
        The place cannot be written to.
    """
    if target.is_dir():
        raise IsADirectoryError("it is a folder; name a file in it")
    beside = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        beside.touch(exist_ok=False)
    except ValueError as error:  # a name that no file can have
        raise OSError(str(error)) from error
    except OSError as error:
        error.filename = str(target)  # the name that the caller knows
        raise
    try:
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
