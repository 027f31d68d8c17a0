import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sddp.statistics import GaussianRegimes
from sddp.statistics.hidden_markov import fitting
from sddp.statistics.hidden_markov.starts import windows
from sddp.threads import one_blas_thread
from tests.statistics.models import two_volatilities


def _blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _two_threads_outside():
    with threadpool_limits(limits=2, user_api="blas"):
        if _blas_threads() != {2}:
            pytest.skip("this BLAS has no second thread to take away")
        yield


def test_the_block_holds_blas_at_one_thread_and_gives_it_back():
    with one_blas_thread():
        assert _blas_threads() == {1}
    assert _blas_threads() == {2}


def test_a_fit_runs_on_one_thread(monkeypatch):
    seen = []

    def recording(*arguments):
        seen.append(_blas_threads())
        return windows(*arguments)

    monkeypatch.setattr(fitting, "KINDS", (recording,))
    rows = two_volatilities(200, np.random.default_rng(0))
    GaussianRegimes(2, n_starts=2).fit(rows, rng=np.random.default_rng(0))
    assert seen == [{1}, {1}]
    assert _blas_threads() == {2}


def test_overlapping_blocks_share_one_limit():
    """The first to enter is the first to leave: the second must still have one thread."""
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _blas_threads() == {1}
    second.__exit__(None, None, None)
    assert _blas_threads() == {2}


def test_an_error_inside_gives_the_threads_back():
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert _blas_threads() == {2}
