"""Twenty US stocks: the main job of ``sddp backtest`` on the study's own data.

``python -m experiments.case_study [--quick] [--prices FILE [--factors FILE]] [--out FOLDER]`` and
all options of ``sddp backtest``. Without ``--prices`` the stocks and the factor funds that ship
inside skfolio are used. These stocks are survivors of thirty years: only differences between
strategies mean something, not their levels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sddp import cli
from sddp.cli import backtest, market_input
from sddp.cli import options as opt
from sddp.cli.output import Result

OUT = "results/case_study"
CAVEAT = "assets are survivors: read differences, not levels"


def stocks() -> market_input.PriceTables:
    """The study's data."""
    from experiments.stocks import factor_fund_prices, stock_prices
    from sddp.cli.prices import align

    tables = align(stock_prices(), factor_fund_prices())
    return market_input.PriceTables(
        *tables, source="twenty US stocks and five factor funds of skfolio", caveats=(CAVEAT,)
    )


def run(options: argparse.Namespace) -> Result:
    """The main job, on the study's data or the user's."""
    if options.out is None:
        options.out = f"{OUT}_quick" if options.quick else OUT
    tables = market_input.read_tables(options, name="--prices", otherwise=stocks)
    return backtest.walk_forward(options, tables)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code (see `sddp.cli.exit_codes`)."""
    parser = opt.Parser(
        prog="case_study", description=__doc__, formatter_class=opt.Help, allow_abbrev=False
    )
    opt.add_common(parser, run)
    parser.add_argument("--prices", metavar="FILE", help="your own prices instead")
    backtest.add_options(parser, out=None)
    return cli.execute(lambda: opt.parse(parser, arguments))


if __name__ == "__main__":
    sys.exit(main())
