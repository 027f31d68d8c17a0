from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sddp.backtest import BuyAndHold, EqualWeight, HoldCash, backtest
from sddp.display.style import GRAY
from sddp.display.vector import narrowed, svg
from sddp.errors import DataError
from sddp.evaluation import metrics, summary
from sddp.market import Market
from sddp.reporting import (
    ReportOptions,
    allocation_figure,
    figures,
    trading_figure,
    trailing_figure,
    wealth_figure,
)
from sddp.reporting.gallery import write_figures
from tests.backtest.modeled import Modeled


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


DATES = pd.bdate_range("2020-01-01", periods=40)
NAMES = (
    "SDDP",
    "QP with a name so long that it would leave no room for the lines of others",
    "1/N",
)


def random_table(seed: int, columns=NAMES) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.uniform(0.1, 1.0, (len(DATES), len(columns))), DATES, list(columns))


def random_weights(seed: int, assets=("a", "b", "c")) -> pd.DataFrame:
    table = random_table(seed, ("cash", *assets))
    return table.div(table.sum(axis=1), axis=0)


def random_tail(seed: int) -> pd.DataFrame:
    table = random_table(seed, ("model_cvar", "realized_cvar"))
    return table.assign(cvar_limit=0.5, violated=table["model_cvar"] > 0.8)


FORECASTS = pd.DataFrame(
    {
        "model_cvar": [0.010, np.nan, 0.012],
        "realized_cvar": [0.015, 0.020, -0.001],
        "cvar_limit": [0.011, np.nan, np.nan],
        "low": [0.012, 0.015, -0.002],
        "high": [0.019, 0.026, 0.0],
    },
    index=list(NAMES),
)
INTERVALS = pd.DataFrame(
    {"value": [0.3, np.nan, -0.2], "low": [0.1, np.nan, -0.5], "high": [0.6, np.nan, 0.1]},
    index=list(NAMES),
)
FIGURES = {
    "wealth": lambda report: wealth_figure(report.wealth, report.timing),
    "trailing": lambda report: trailing_figure(report.wealth, 6, report.timing),
    "trading": lambda report: trading_figure(report.turnover, report.costs, report.timing),
    "allocation": lambda report: allocation_figure({"tilted": report.weights("tilted")}),
    "rolling": lambda _: figures.rolling_figure(random_table(1), random_table(2), 12, "lag 1"),
    "regimes": lambda _: figures.regime_figure(
        random_weights(3), random_table(4)["SDDP"], "a market with a long name, in points"
    ),
    "risk_forecasts": lambda _: figures.risk_forecast_figure(FORECASTS),
}
MULTIPLES = {
    "allocations": lambda n: figures.allocation_figure(
        {f"strategy {i}, named at some length": random_weights(i) for i in range(n)}, 9
    ),
    "tails": lambda n: figures.tail_figure(
        {f"strategy {i}": random_tail(i) for i in range(n)}, 250
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_is_labeled_and_nothing_overlaps(report, name):
    figure = FIGURES[name](report)
    FigureCanvasAgg(figure).draw()
    legend = figure.legends[0].get_window_extent()
    for ax in figure.axes:
        assert ax.get_ylabel() or ax.get_xlabel()
        assert not ax.get_tightbbox().overlaps(legend)
    assert figure.axes[0].get_title(loc="left")
    inside = figure.bbox
    assert legend.x0 >= 0.0
    assert legend.x1 <= inside.x1
    assert legend.y0 >= 0.0
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert not (len(boxes) == 2 and boxes[0].overlaps(boxes[1]))


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_saved(report, name):
    stream = io.BytesIO()
    FIGURES[name](report).savefig(stream)
    assert stream.getvalue().startswith(b"\x89PNG")


@pytest.mark.long
@pytest.mark.parametrize(
    ("freq", "periods"), [("D", 3), ("B", 60), ("B", 250), ("ME", 48), ("ME", 120), ("ME", 720)]
)
def test_date_labels_do_not_overlap(freq, periods):
    dates = pd.date_range("1990-01-05", periods=periods, freq=freq)
    market = Market(pd.DataFrame({"a": np.linspace(1.0, 30.0, periods)}, dates))
    report = backtest(market, {"s": EqualWeight()}, start=dates[0], transaction_cost=0.0)
    figure = wealth_figure(report.wealth, report.timing)
    FigureCanvasAgg(figure).draw()
    for axis in (figure.axes[1].xaxis, figure.axes[0].yaxis, figure.axes[1].yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        assert 2 <= len(boxes) <= 13
        assert not any(one.overlaps(two) for one, two in pairwise(boxes))


def test_wealth_is_on_a_log_scale_with_the_drawdown_below(report):
    top, bottom = wealth_figure(report.wealth, report.timing).axes
    assert top.get_yscale() == "log"
    assert bottom.get_yscale() == "linear"
    lines = {line.get_label(): line.get_ydata() for line in top.get_lines()}
    assert lines["1/N"] == pytest.approx(report.wealth["1/N"].to_numpy())
    falls = {line.get_label(): line.get_ydata() for line in bottom.get_lines()}
    assert max(falls["1/N"]) == 0.0
    assert min(falls["1/N"]) == pytest.approx(summary(report).loc["1/N", "maximum_drawdown"])


def test_legends_go_from_the_best_to_the_worst(report):
    legend = [
        text.get_text()
        for text in wealth_figure(report.wealth, report.timing).legends[0].get_texts()
    ]
    assert legend == list(report.wealth.iloc[-1].sort_values(ascending=False).index)


def test_the_figure_says_how_decisions_were_traded(report):
    assert (
        wealth_figure(report.wealth, report.timing).get_supxlabel()
        == "lag 1: executed 1 row after the decision"
    )


def test_twenty_assets_are_nine_and_the_others(report):
    figure = allocation_figure({"tilted": report.weights("tilted")})
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == 11
    assert legend[0] == "other (11)"
    assert legend[-1] == "cash"
    few = allocation_figure({"tilted": report.weights("tilted")}, 19)
    assert len(few.legends[0].get_texts()) == 21  # one asset alone is not called "other"


@pytest.mark.long
def test_plotting_leaves_pyplot_alone():
    code = (
        "import sys, pandas as pd\n"
        "from sddp.backtest import EqualWeight, backtest\n"
        "from sddp.market import Market\n"
        "assert 'matplotlib' not in sys.modules\n"
        "prices = pd.DataFrame({'a': [1., 2, 3]}, pd.date_range('2020', periods=3))\n"
        "report = backtest(Market(prices), {'s': EqualWeight()}, start='2020', "
        "transaction_cost=0.0)\n"
        "from sddp.reporting import wealth_figure\n"
        "wealth_figure(report.wealth, report.timing)\n"
        "import matplotlib.pyplot as plt\n"
        "assert plt.get_fignums() == []\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", MULTIPLES)
@pytest.mark.parametrize("n_panels", [1, 2, 3, 8])
def test_small_multiples_do_not_overlap_and_have_dates_below_each_column(name, n_panels):
    figure = MULTIPLES[name](n_panels)
    FigureCanvasAgg(figure).draw()
    assert len(figure.axes) == n_panels
    boxes = [*(ax.get_tightbbox() for ax in figure.axes), figure.legends[0].get_window_extent()]
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])
    dated = [any(label.get_text() for label in _shown(ax)) for ax in figure.axes]
    assert dated == [i >= n_panels - 2 for i in range(n_panels)]
    assert all(ax.get_ylabel() for ax in figure.axes[:: 2 if n_panels > 1 else 1])


def _shown(ax):
    visible = ax.xaxis.get_tick_params()["labelbottom"]
    return ax.xaxis.get_ticklabels() if visible else []


def lines(ax) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_ydata() for line in ax.get_lines()}


def test_trailing_and_trading_lines_are_those_of_the_report(report):
    (ax,) = trailing_figure(report.wealth, 12, report.timing).axes
    trailing = metrics.trailing_return(report.wealth, months=12)
    top, bottom = trading_figure(report.turnover, report.costs, report.timing).axes
    for name, ledger in report.ledgers.items():
        assert lines(ax)[name] == pytest.approx(trailing[name].to_numpy())
        assert lines(top)[name] == pytest.approx(ledger.turnover.cumsum().to_numpy())
        costs = (ledger.costs.sum(axis=1) / ledger.wealth).cumsum()
        assert lines(bottom)[name] == pytest.approx(costs.to_numpy())


def test_rolling_lines_are_the_tables_and_absurd_ratios_do_not_stretch_the_axis():
    sharpe, volatility = random_table(1), random_table(2)
    sharpe.iloc[5, 0] = 4000.0
    sharpe.iloc[:, 2] = np.nan
    top, bottom = figures.rolling_figure(sharpe, volatility, 12, "lag 1").axes
    for name in NAMES:
        assert lines(top)[name] == pytest.approx(sharpe[name].to_numpy(), nan_ok=True)
        assert lines(bottom)[name] == pytest.approx(volatility[name].to_numpy())
    assert top.get_ylim()[1] == 10.0
    assert bottom.get_ylim()[0] == 0.0


def tops(ax) -> list[np.ndarray]:
    """Upper edge of each area at each row, the lowest area first."""
    numbers = DATES.to_numpy().astype("datetime64[D]").astype(float)
    edges = []
    for area in ax.collections:
        x, y = area.get_paths()[0].vertices.T
        edges.append(np.array([y[np.isclose(x, number)].max() for number in numbers]))
    return edges


def test_areas_are_the_weights_stacked_from_cash_upwards():
    table = random_weights(5)
    (ax,) = figures.allocation_figure({"s": table}, 9).axes
    drawn = tops(ax)
    # An edge at a step has the height of both sides; the higher one is that of the row or before.
    stacked = table.cumsum(axis=1)
    both = np.maximum(stacked, stacked.shift(1).fillna(0.0))
    for column, edge in zip(both, drawn, strict=True):
        assert edge == pytest.approx(both[column].to_numpy())
    legend = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert legend == ["c", "b", "a", "cash"]


def test_every_panel_shows_the_same_assets_in_the_same_colors():
    # b is the largest in one strategy, a on average.
    one = pd.DataFrame({"cash": 0.4, "a": 0.5, "b": 0.0, "c": 0.1}, DATES)
    two = pd.DataFrame({"cash": 0.0, "a": 0.3, "b": 0.6, "c": 0.1}, DATES)
    figure = figures.allocation_figure({"one": one, "two": two}, 1)
    shown = [[area.get_label() for area in ax.collections] for ax in figure.axes]
    assert shown == [["cash", "b", "other (2)"]] * 2
    colors = [[tuple(area.get_facecolor()[0]) for area in ax.collections] for ax in figure.axes]
    assert colors[0] == colors[1]
    assert len(set(colors[0])) == len(colors[0])
    assert tops(figure.axes[0])[-1] == pytest.approx(1.0)


def test_a_strategy_looks_the_same_in_every_figure():
    """Whatever its rank there."""
    tables = [random_table(seed, ("u", "v", "w", "x")) for seed in (1, 2, 3)]
    assert len({tuple(table.iloc[-1].argsort()) for table in tables}) == 3
    drawn = [
        figures.wealth_figure(tables[0], ""),
        figures.rolling_figure(tables[1], tables[2], 12, ""),
        figures.trading_figure(tables[2], tables[0], ""),
    ]
    looks = [
        {line.get_label(): (line.get_color(), line.get_linestyle()) for line in ax.get_lines()}
        for figure in drawn
        for ax in figure.axes
    ]
    for name in tables[0]:
        assert len({look[name] for look in looks}) == 1


def test_fifteen_strategies_can_be_told_apart():
    names = [f"strategy number {i} with a limit of {i} % and so on" for i in range(15)]
    wealth = random_table(8, names)
    figure = figures.wealth_figure(wealth, "lag 1")
    FigureCanvasAgg(figure).draw()
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(looks) == 15
    legend = figure.legends[0]
    assert len(legend.get_texts()) == 15
    box = legend.get_window_extent()
    assert box.y0 >= 0.0
    assert box.x1 <= figure.bbox.x1
    assert figure.axes[0].get_window_extent().width > 0.5 * figure.bbox.width


@pytest.mark.long
def test_names_are_never_formulas_and_never_left_out():
    hostile = ["_hidden", "$\\frac{$", "a $\\foo$", "<b>&"]
    for figure, expected in (
        (figures.wealth_figure(random_table(9, hostile), "lag 1"), 4),
        (figures.allocation_figure({name: random_weights(1) for name in hostile}, 9), 4),
        (figures.risk_forecast_figure(FORECASTS.iloc[:2].set_axis(hostile[1:3])), 3),
        (figures.regime_figure(random_weights(1), random_table(1)["SDDP"], hostile[1]), 4),
    ):
        FigureCanvasAgg(figure).draw()
        assert len(figure.legends[0].get_texts()) == expected
    legend = figures.wealth_figure(random_table(9, hostile), "lag 1").legends[0]
    assert {text.get_text() for text in legend.get_texts()} == set(hostile)


def test_regimes_are_stacked_beliefs_below_the_market():
    beliefs, level = random_weights(3), random_table(4)["SDDP"]
    top, bottom = figures.regime_figure(beliefs, level, "market").axes
    assert top.get_lines()[0].get_ydata() == pytest.approx(level.to_numpy())
    assert tops(bottom)[-1] == pytest.approx(1.0)
    (alone,) = figures.regime_figure(beliefs, None, "").axes
    assert len(alone.collections) == beliefs.shape[1]
    one = figures.regime_figure(beliefs[["cash"]].set_axis(["regime 1"], axis=1), None, "")
    assert [text.get_text() for text in one.legends[0].get_texts()] == ["regime 1"]


def test_tails_show_forecast_outcome_limit_and_violations():
    table = random_tail(11)
    (ax,) = figures.tail_figure({"s": table}, 250).axes
    forecast, realized, limit, ticks = ax.get_lines()[:4]
    assert forecast.get_ydata() == pytest.approx(table["model_cvar"].to_numpy())
    assert forecast.get_drawstyle() == "steps-post"
    assert realized.get_ydata() == pytest.approx(table["realized_cvar"].to_numpy())
    assert set(limit.get_ydata()) == {0.5}
    marked = pd.DatetimeIndex(ticks.get_xdata())
    assert marked.equals(table.index[table["model_cvar"] > 0.8])


def test_forecasts_are_dots_beside_their_limits():
    (ax,) = figures.risk_forecast_figure(FORECASTS).axes
    _, forecast, limit = ax.get_lines()
    realized = ax.collections[1].get_offsets()[:, 0]
    assert np.asarray(realized) == pytest.approx([0.015, 0.020, -0.001])
    assert forecast.get_xdata() == pytest.approx([0.010, np.nan, 0.012], nan_ok=True)
    assert limit.get_xdata() == pytest.approx([0.011, np.nan, np.nan], nan_ok=True)
    bars = [segment[:, 0] for segment in ax.collections[0].get_segments()]
    assert np.array(bars) == pytest.approx(FORECASTS[["low", "high"]].to_numpy())
    assert ax.get_xlim()[0] < -0.001
    without = figures.risk_forecast_figure(FORECASTS.drop(columns=["low", "high"]))
    assert len(without.axes[0].collections) == 1  # dots without bars


def test_intervals_are_drawn_from_the_top():
    (ax,) = figures.interval_figure(INTERVALS, "Sharpe ratio", "a year").axes
    dots = np.ma.filled(ax.collections[1].get_offsets()[:, 0], np.nan)
    assert dots == pytest.approx([0.3, np.nan, -0.2], nan_ok=True)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert len(ax.get_yticklabels()) == 3
    FigureCanvasAgg(ax.figure).draw()


@pytest.fixture(scope="module")
def modeled():
    rng = np.random.default_rng(12)
    dates = pd.bdate_range("2018-01-01", periods=330)
    prices = pd.DataFrame(np.cumprod(1.0 + rng.normal(0.0, 0.01, (330, 2)), axis=0), dates)
    strategies = {
        "m": Modeled(1),
        "same": Modeled(1, share=0.4),
        "n": Modeled(3),
        "c": HoldCash(),
    }
    return backtest(Market(prices), strategies, start=dates[2], transaction_cost=0.001)


ALL_FIGURES = {"wealth", "risk_forecasts", "tails", "trailing_return", "rolling"} | {
    *("allocation", "regimes_1", "regimes_2", "trading")
}


@pytest.mark.long
def test_the_figures_of_a_report_are_written(modeled, tmp_path):
    paths = write_figures(modeled, tmp_path / "new" / "folder")
    assert {path.stem for path in paths} == ALL_FIGURES  # two strategies share their beliefs
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())


@pytest.mark.long
def test_what_is_not_chosen_is_not_drawn(modeled, report, tmp_path):
    rng, few = np.random.default_rng(1), ReportOptions(detail=["c"], reference="c", n_draws=100)
    names = {path.stem for path in write_figures(modeled, tmp_path, options=few, rng=rng)}
    expected = ALL_FIGURES - {"tails", "regimes_1", "regimes_2"}
    assert names == expected | {"sharpe_intervals", "sharpe_differences"}
    none = write_figures(report, tmp_path, options=ReportOptions(detail=()))
    assert {path.stem for path in none} == {"wealth", "trailing_return", "rolling", "trading"}


def test_a_folder_that_cannot_be_made_is_named(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"folder = '.*file' cannot be written to"):
        write_figures(report, tmp_path / "file")


def test_vectors_are_the_same_each_time_and_narrow_ones_keep_their_legend():
    table = random_table(3, ("u", "v", "a < b"))
    first, second = (svg(figures.wealth_figure(table, "lag 1")) for _ in range(2))
    assert first == second
    assert "a &lt; b" in first
    assert "prefers-color-scheme: dark" in first
    figure = narrowed(figures.wealth_figure(table, "lag 1"))
    FigureCanvasAgg(figure).draw()
    assert figure.get_size_inches()[0] < 5.0
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"u", "v", "a < b"}
    assert not any(ax.get_tightbbox().overlaps(legend.get_window_extent()) for ax in figure.axes)


def test_featured_strategies_have_colors_and_the_others_are_one_entry():
    table = random_table(4, ("SDDP", "equal weights", "u", "v"))
    figure = figures.wealth_figure(table, "", ["SDDP", "equal weights"])
    colors = {line.get_label(): line.get_color() for line in figure.axes[0].get_lines()}
    assert colors["u"] == colors["v"] == GRAY
    assert len({colors["SDDP"], colors["equal weights"], GRAY}) == 3
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"SDDP", "equal weights", "2 more"}
