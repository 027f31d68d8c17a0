"""How every kernel is compiled, and where compiled code is kept."""

from __future__ import annotations

import hashlib
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit

from sddp.errors import NumericalWarning

# NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function: Any) -> Any:
    """Compile when first called, without the interpreter's lock, cached on disk.

    The cache is numba's: the folder that NUMBA_CACHE_DIR names, `__pycache__` beside this file, or
    the user's cache folder, whichever can be written to. Numba takes cached code for current as
    long as the file of the function is unchanged; what a kernel calls stands in other files, so
    the stamp of all files with kernels is put in the place of that of one.
    """
    compiled = njit(fastmath=FAST, nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    try:
        compiled.enable_caching()
    except RuntimeError:  # numba finds no folder to write to
        _say_uncached()
    else:
        compiled._cache._cache_file._source_stamp = _stamp()
    return compiled


@cache
def _stamp() -> str:
    """Hash of the source files that hold kernels, with the types of their arguments."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"@kernel" in source or path.name in ("kernel.py", "tables.py"):
            digest.update(source)
    return digest.hexdigest()


@cache
def _say_uncached() -> None:
    warnings.warn(
        "there is no folder that compiled code can be kept in, so each process compiles for some "
        "15 seconds; set NUMBA_CACHE_DIR to a folder that can be written to",
        NumericalWarning,
        stacklevel=4,
    )
