from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sddp.backtest import BuyAndHold, EqualWeight, HoldCash, Market, backtest


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(8)
    dates = pd.date_range("2015-01-31", periods=60, freq="ME")
    names = [f"company {i}" for i in range(20)]
    returns = pd.DataFrame(rng.normal(0.005, 0.05, (60, 20)), dates, names)
    weights = pd.Series(np.arange(1.0, 21.0) / 250.0, names)
    strategies = {"1/N": EqualWeight(), "tilted": BuyAndHold(weights), "cash": HoldCash()}
    market = Market.from_returns(returns, cash_rate=0.001)
    return backtest(market, strategies, start=dates[0], transaction_cost=0.001)


FIGURES = {
    "wealth": lambda report: report.plot_wealth(),
    "trailing": lambda report: report.plot_trailing_return(),
    "trading": lambda report: report.plot_trading(),
    "allocation": lambda report: report.plot_allocation("tilted"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_is_labelled_and_nothing_overlaps(report, name):
    figure = FIGURES[name](report)
    FigureCanvasAgg(figure).draw()
    legend = figure.legends[0].get_window_extent()
    for ax in figure.axes:
        assert ax.get_ylabel()
        assert not ax.get_tightbbox().overlaps(legend)
    assert figure.axes[0].get_title(loc="left")
    inside = figure.bbox
    assert legend.x0 >= 0.0
    assert legend.x1 <= inside.x1
    assert legend.y0 >= 0.0
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert not (len(boxes) == 2 and boxes[0].overlaps(boxes[1]))


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_saved(report, name):
    stream = io.BytesIO()
    FIGURES[name](report).savefig(stream)
    assert stream.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("freq", "periods"), [("D", 3), ("B", 60), ("B", 250), ("ME", 48), ("ME", 120), ("ME", 720)]
)
def test_date_labels_do_not_overlap(freq, periods):
    dates = pd.date_range("1990-01-05", periods=periods, freq=freq)
    market = Market(pd.DataFrame({"a": np.linspace(1.0, 30.0, periods)}, dates))
    report = backtest(market, {"s": EqualWeight()}, start=dates[0], transaction_cost=0.0)
    figure = report.plot_wealth()
    FigureCanvasAgg(figure).draw()
    for axis in (figure.axes[1].xaxis, figure.axes[0].yaxis, figure.axes[1].yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        assert 2 <= len(boxes) <= 13
        assert not any(one.overlaps(two) for one, two in pairwise(boxes))


def test_wealth_is_on_a_log_scale_with_the_drawdown_below(report):
    top, bottom = report.plot_wealth().axes
    assert top.get_yscale() == "log"
    assert bottom.get_yscale() == "linear"
    lines = {line.get_label(): line.get_ydata() for line in top.get_lines()}
    assert lines["1/N"] == pytest.approx(report.wealth["1/N"].to_numpy())
    falls = {line.get_label(): line.get_ydata() for line in bottom.get_lines()}
    assert max(falls["1/N"]) == 0.0
    assert min(falls["1/N"]) == pytest.approx(report.summary().loc["1/N", "maximum_drawdown"])


def test_legends_go_from_the_best_to_the_worst(report):
    legend = [text.get_text() for text in report.plot_wealth().legends[0].get_texts()]
    assert legend == list(report.wealth.iloc[-1].sort_values(ascending=False).index)


def test_the_figure_says_how_decisions_were_traded(report):
    assert report.plot_wealth().get_supxlabel() == "lag 1: executed 1 row after the decision"


def test_twenty_assets_are_nine_and_the_others(report):
    figure = report.plot_allocation("tilted")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == 11
    assert legend[0] == "other (11)"
    assert legend[-1] == "cash"
    few = report.plot_allocation("tilted", largest=19)
    assert len(few.legends[0].get_texts()) == 21  # one asset alone is not called "other"


def test_plotting_leaves_pyplot_alone():
    code = (
        "import sys, pandas as pd\n"
        "from sddp.backtest import EqualWeight, Market, backtest\n"
        "assert 'matplotlib' not in sys.modules\n"
        "prices = pd.DataFrame({'a': [1., 2, 3]}, pd.date_range('2020', periods=3))\n"
        "report = backtest(Market(prices), {'s': EqualWeight()}, start='2020', "
        "transaction_cost=0.0)\n"
        "report.plot_wealth()\n"
        "import matplotlib.pyplot as plt\n"
        "assert plt.get_fignums() == []\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
