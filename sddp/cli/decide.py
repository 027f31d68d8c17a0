"""``sddp decide``: today's orders for what is held."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sddp.cli import options as opt
from sddp.cli import settings as model_settings
from sddp.cli.extras import can_draw, not_drawn
from sddp.cli.inputs.holdings import Holdings, read_holdings
from sddp.cli.inputs.market import Notes, PriceTables, read_tables
from sddp.cli.output import Result
from sddp.cli.settings import Settings
from sddp.cli.train import add_training_options, settings_for, today, trained_model

if TYPE_CHECKING:
    from sddp.backtest.today import TodaysDecision, TrainedModel
    from sddp.market.market import View

# Cash to decide about where nothing else is said.
WEALTH = 100_000.0

# Columns of the orders that say nothing where returns stand in the place of prices.
PER_SHARE = ("price", "shares", "trade_shares", "after_shares")


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = opt.command(
        commands,
        "decide",
        run=run,
        summary="today's orders, from prices and current holdings",
        description="Orders that the multi-stage policy gives for what is held on the last date "
        "of PRICES: in money, shares or lots, with their cost, the risk before and after, what "
        "the limit costs, the probabilities of the regimes, and what not trading would give up. "
        "The policy is that of --policy FOLDER (see sddp train), or is trained on the last "
        "--window rows.\n\n"
        "HOLDINGS is a CSV file with a header and one line per position (asset,shares or "
        "asset,money; the asset cash is money), or a JSON object of amounts by asset.",
        examples=(
            "sddp decide prices.csv --wealth 50000",
            "sddp decide prices.csv --holdings holdings.csv --lot 100 --out results/today",
            "sddp decide prices.csv --holdings holdings.csv --policy results/policy",
            "sddp decide prices.csv --holdings holdings.csv --within 0.05",
        ),
    )
    parser.add_argument("prices", nargs="?", metavar="PRICES", help="file of prices")
    held = parser.add_argument_group("holdings")
    held.add_argument("--holdings", metavar="FILE", help="what is held, CSV or JSON")
    held.add_argument(
        "--unit", choices=("money", "shares"), help="of the amounts, where the file does not say it"
    )
    held.add_argument(
        "--wealth",
        type=opt.positive_number,
        metavar="X",
        help=f"all of it in cash, instead of --holdings (default {WEALTH:g})",
    )
    held.add_argument(
        "--lot", type=opt.positive_number, metavar="N", help="trade whole lots of N shares"
    )
    held.add_argument(
        "--within",
        type=opt.share,
        metavar="X",
        help="of the decisions whose expected gain over cash is at least 1 - X times the best, the "
        "one that trades least; 0.05 gives up at most 5 %% of the gain (default: the best one)",
    )
    parser.add_argument("--policy", metavar="FOLDER", help="a policy that sddp train has written")
    add_training_options(parser, out=None)


def run(options: argparse.Namespace) -> Result:
    """Read, train or load, decide, report."""
    from sddp.cli.results import decision_report

    _check_holdings(options)
    tables = read_tables(options)
    held = _holdings(options, tables)
    _check_unit(options, held, tables)
    notes = tables.notes()
    if options.holdings is None:
        notes.add(f"Held: {held.cash:,.2f} in cash (--holdings and --wealth say otherwise).")
    if options.out is None:
        decision = _decide(options, tables, held, notes)
        return Result(
            decision_report.data(decision, notes.lines),
            lambda width: decision_report.text(decision, notes.lines, width),
        )
    from sddp.studies.record import Run

    with Run(options.out, {"command": "decide", **_plain(options)}) as record:
        record.add_input("prices", tables.prices)
        record.add_input("factors", tables.factors)
        decision = _decide(options, tables, held, notes)
        found = decision_report.data(decision, notes.lines)
        decision_report.write(record, decision, notes.lines)
        record.finish("complete", found)
    page = "decision.html, " if can_draw() else ""
    files = f"orders.csv, {page}decision.json and run.json: {options.out}"
    if not can_draw():
        files += f"\n{not_drawn('decision.html')}"
    return Result(
        {**found, "out": options.out},
        lambda width: decision_report.text(decision, notes.lines, width) + f"\n{files}",
    )


def _decide(
    options: argparse.Namespace, tables: PriceTables, held: Holdings, notes: Notes
) -> TodaysDecision:
    from sddp.backtest.today import decide_today
    from sddp.errors import InfeasibleState

    if options.policy is not None:
        model, view = _loaded(options, tables, notes)
        money = _money(held, view)
    else:
        settings = settings_for(options, tables, notes)
        view = today(tables, settings, options)
        notes.add(_settings_sentence(settings, tables))
        with opt.store_of(options) as store:
            money = _money(held, view)
            model, _ = trained_model(settings, view, store, quiet=options.quiet, holdings=money)
    try:
        decision = decide_today(model, view, money, lot=options.lot, within=options.within)
    except InfeasibleState as error:
        limit = model.policy.problem.model.cvar_limit
        raise InfeasibleState(
            f"--cvar-limit {limit}: no orders keep it from these holdings, now and later; selling "
            "out costs more than it allows, or what cannot be sold risks more: give a larger limit"
        ) from error
    if tables.kind == "returns":
        return replace(decision, orders=decision.orders.drop(columns=list(PER_SHARE)))
    return decision


def _money(held: Holdings, view: View) -> dict[str, float]:
    """What is held, at the last prices."""
    prices = {str(name): float(price) for name, price in view.prices.iloc[-1].items()}
    return dict(held.in_money(prices, f"{view.date:%Y-%m-%d}"))


def _loaded(
    options: argparse.Namespace, tables: PriceTables, notes: Notes
) -> tuple[TrainedModel, View]:
    """A policy of ``sddp train``, and the market that it looks at.

    Raises
    ------
    DataError
        The options contradict it, or the prices end before it was trained.
    """
    from sddp.backtest.today import TrainedModel
    from sddp.errors import DataError

    fixed = {f: v for f, v in model_settings.given(options).items() if f != "seed"}
    if fixed:
        name = model_settings.OPTION_OF[next(iter(fixed))]
        raise DataError(
            f"{name} {next(iter(fixed.values()))}: is fixed by --policy {options.policy}; leave "
            "one of them out"
        )
    model = TrainedModel.load(options.policy)
    view = today(tables, Settings(cash_rate=0.0), options)
    if view.date < model.date:
        raise DataError(
            f"PRICES end on {view.date:%Y-%m-%d}, and --policy {options.policy} was trained up "
            f"to {model.date:%Y-%m-%d}; give newer prices, or train on these"
        )
    rows = int((view.dates > model.date).sum())
    notes.add(f"The policy was trained up to {model.date:%Y-%m-%d}, {rows} rows ago.")
    return model, view


def _holdings(options: argparse.Namespace, tables: PriceTables) -> Holdings:
    if options.holdings is None:
        return Holdings(options.wealth or WEALTH, {}, "money", "--wealth")
    return read_holdings(options.holdings, options.unit, set(map(str, tables.prices.columns)))


def _check_holdings(options: argparse.Namespace) -> None:
    """Options that contradict each other.

    Raises
    ------
    DataError
    """
    from sddp.errors import DataError

    if options.holdings is None and options.unit is not None:
        raise DataError(f"--unit {options.unit}: needs --holdings FILE; give both")
    if options.holdings is not None and options.wealth is not None:
        raise DataError(
            f"--wealth {options.wealth:g}: contradicts --holdings {options.holdings}; write cash "
            "into that file instead"
        )


def _check_unit(options: argparse.Namespace, held: Holdings, tables: PriceTables) -> None:
    """Shares have no value where returns are given in the place of prices.

    Raises
    ------
    DataError
    """
    from sddp.errors import DataError

    if tables.kind != "returns":
        return
    if options.lot is not None:
        raise DataError(
            f"--lot {options.lot:g}: needs prices, and with --returns there are none; give prices, "
            "or no --lot"
        )
    if held.unit == "shares" and held.amounts:
        raise DataError(
            f"{held.source}: is in shares, which have no value without prices, and with --returns "
            "there are none; write the holdings in money, or give prices"
        )


def _settings_sentence(settings: Settings, tables: PriceTables) -> str:
    limit = "none" if settings.cvar_limit is None else f"{settings.cvar_limit:.2%}"
    return (
        f"Settings for {tables.frequency} prices: window {settings.window} rows, a decision every "
        f"{settings.period} rows, {settings.n_stages} decisions ahead, {settings.n_states} "
        f"{'regime' if settings.n_states == 1 else 'regimes'}, limit {limit}, cost "
        f"{settings.transaction_cost:.2%}."
    )


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name != "run"}
