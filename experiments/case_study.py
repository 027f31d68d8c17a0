"""Twelve US industries, 1949 to 2017: the main job of ``sddp backtest`` on data without survivors.

``python -m experiments.case_study [--quick] [--stocks] [--steps] [--replot] [--out FOLDER]`` and
the options of ``sddp backtest``. The industries hold all US stocks, dead ones included; with four
factors and Treasury bills they ship inside the package linearmodels, and nothing is downloaded.

Fixed before any result was seen: 240 months of data for each estimate, one estimate and training a
year, decisions at the end of each month and traded there, 0.5 % cost, a limit of 5 % on the CVaR of
the worst tenth of months, means that make equal weights optimal, calibration in steps of 0.02.

``--stocks`` takes twenty US stocks of the package skfolio instead (extra ``stocks``). They are
survivors of thirty years: there only differences between strategies mean something.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sddp import cli
from sddp.cli import backtest
from sddp.cli import options as opt
from sddp.cli.inputs import market as market_input
from sddp.cli.output import Result

OUT = "results/case_study"
SURVIVORS = "assets are survivors: read differences, not levels"
AT_MONTH_END = "decisions are traded at the month-end quotes that they are made on"

# Of the industries; one training a year keeps the run at minutes.
SETTINGS = {
    "window": 240,
    "refit_every": 12,
    "transaction_cost": 0.005,
    "cvar_limit": 0.05,
    "lag": 0,
    "test_years": 100.0,
}


def industries() -> market_input.PriceTables:
    """Returns of the industries, log returns of the factors, and bills."""
    import numpy as np

    from experiments.industries import industry_returns

    found = industry_returns()
    return market_input.PriceTables(
        found.industries,
        found.factors.apply(np.log1p),
        source="twelve US industries, four factors and bills of linearmodels",
        caveats=(AT_MONTH_END,),
        kind="returns",
        cash=found.bills,
        own_defaults=SETTINGS,
    )


def stocks() -> market_input.PriceTables:
    """Prices of the stocks, and of factor funds."""
    from experiments.stocks import factor_fund_prices, stock_prices
    from sddp.cli.inputs.prices import align

    tables = align(stock_prices(), factor_fund_prices())
    return market_input.PriceTables(
        *tables, source="twenty US stocks and five factor funds of skfolio", caveats=(SURVIVORS,)
    )


def run(options: argparse.Namespace) -> Result:
    """The main job, on the study's data."""
    if options.out is None:
        name = f"{OUT}_stocks" if options.stocks else OUT
        options.out = f"{name}_quick" if options.quick else name
    return backtest.walk_forward(options, stocks() if options.stocks else industries())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code (see `sddp.cli.exit_codes`)."""
    parser = opt.Parser(
        prog="case_study", description=__doc__, formatter_class=opt.Help, allow_abbrev=False
    )
    opt.add_common(parser, run)
    parser.add_argument("--stocks", action="store_true", help="twenty US stocks instead")
    backtest.add_walk_options(parser, out=None)
    return cli.execute(lambda: opt.parse(parser, arguments))


if __name__ == "__main__":
    sys.exit(main())
