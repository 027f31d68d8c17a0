"""How every kernel is compiled."""

from __future__ import annotations

from typing import Any

from numba import njit

# NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function: Any) -> Any:
    """Compile when first called, cached on disk, without the interpreter's lock."""
    return njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", no_cfunc_wrapper=True)(
        function
    )
