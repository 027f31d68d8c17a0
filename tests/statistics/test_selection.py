import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sddp.errors import DataError, ModelError
from sddp.statistics import GaussianRegimes, choose_n_states
from tests.statistics.models import two_volatilities

QUICK = GaussianRegimes(n_starts=4)


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_one_regime_has_a_closed_form():
    rows = two_volatilities(500, _rng())
    table = choose_n_states(rows, [1], rng=_rng())
    held_out = 0.0
    for train, test in ((350, 400), (400, 450), (450, 500)):
        law = multivariate_normal(rows[:train].mean(axis=0), np.cov(rows[:train].T, bias=True))
        held_out += law.logpdf(rows[train:test]).sum()
    law = multivariate_normal(rows.mean(axis=0), np.cov(rows.T, bias=True))
    bic = -2.0 * law.logpdf(rows).sum() + 5 * np.log(500)
    assert table.index.tolist() == [1]
    assert table.loc[1, "held_out_log_likelihood"] == pytest.approx(held_out, rel=1e-10)
    assert table.loc[1, "held_out_per_row"] == pytest.approx(held_out / 150, rel=1e-10)
    assert table.loc[1, "bic"] == pytest.approx(bic, rel=1e-10)
    assert table.loc[1, "chosen"]


def test_held_out_rows_are_scored_given_the_rows_before_them():
    # From a stationary start the first held-out row would not know its regime.
    rows = two_volatilities(500, _rng())
    table = choose_n_states(
        rows, [2], rng=_rng(), regimes=QUICK, training_shares=[0.8], block_share=0.2
    )
    fitted = GaussianRegimes(2).fit(rows[:400], rng=_rng(1))
    probability = fitted.filter(rows[:400])[-1]
    total = 0.0
    for row in rows[400:]:
        predicted = probability @ fitted.transition_matrix
        weights = predicted * [
            multivariate_normal(m, c).pdf(row)
            for m, c in zip(fitted.means, fitted.covariances, strict=True)
        ]
        total += np.log(weights.sum())
        probability = weights / weights.sum()
    # The two fits come from different starts of EM: they agree to its tolerance.
    assert table.loc[2, "held_out_log_likelihood"] == pytest.approx(total, abs=0.01)


@pytest.mark.long
def test_two_regimes_are_found_in_data_with_two():
    table = choose_n_states(two_volatilities(800, _rng(1)), [1, 2, 3], rng=_rng(), regimes=QUICK)
    assert table.index[table["chosen"]].tolist() == [2]
    assert table["bic"].idxmin() == 2
    assert table.loc[2, "held_out_log_likelihood"] > table.loc[1, "held_out_log_likelihood"] + 10


def test_a_candidate_whose_fit_lost_a_regime_is_not_eligible():
    rows = _rng(8).normal(size=(300, 2))
    rows[150] = [60.0, -60.0]
    table = choose_n_states(rows, [1, 2], rng=_rng(), regimes=QUICK)
    assert table["fewest_fitted"].tolist() == [1, 1]
    assert table["chosen"].tolist() == [True, False]


def test_candidates_do_not_move_each_other_and_the_seed_decides():
    rows = two_volatilities(300, _rng(2))
    alone = choose_n_states(rows, [2], rng=_rng(3), regimes=QUICK)
    beside = choose_n_states(rows, [2, 1], rng=_rng(3), regimes=QUICK)
    columns = ["held_out_log_likelihood", "bic"]
    assert alone.loc[2, columns].tolist() == beside.loc[2, columns].tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"candidates": []}, ModelError, "candidates is empty"),
        ({"training_shares": [0.95]}, ModelError, "training share 0.95 with block share 0.1"),
        ({"block_share": 0.0}, ModelError, "nothing to train or test on"),
        ({"candidates": [12]}, DataError, "12 regimes of 2 variables need at least 240"),
    ],
)
def test_wrong_calls_are_named(arguments, error, words):
    rows = two_volatilities(300, _rng())
    with pytest.raises(error, match=words):
        choose_n_states(rows, rng=_rng(), regimes=QUICK, **({"candidates": [1]} | arguments))
