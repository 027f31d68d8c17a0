"""One BLAS thread for small products."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_blas_thread() -> AbstractContextManager[object]:
    """Hold BLAS at one thread inside a ``with`` block.

    The products here have a few hundred rows: a pool of threads gains nothing, made a fit up to
    sixty times slower on two busy cores, and would let sums depend on how many cores are free.
    """
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
