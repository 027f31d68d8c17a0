"""``sddp train``: a policy trained on all prices, kept in a folder for ``sddp decide``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sddp.cli import options as opt
from sddp.cli import settings as model_settings
from sddp.cli.extras import can_draw
from sddp.cli.inputs.market import Notes, PriceTables, add_price_options, read_tables
from sddp.cli.output import Result, filled, shown_iterations
from sddp.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sddp.backtest import MultistageStrategy
    from sddp.backtest.today import TrainedModel
    from sddp.market.market import View

OUT = "results/policy"


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = opt.command(
        commands,
        "train",
        run=run,
        summary="train a policy on prices, for decisions later",
        description="Estimate regimes and scenarios from the last --window rows of PRICES, train "
        "a multi-stage policy on them, and keep it in the folder --out. sddp decide --policy "
        "FOLDER takes decisions with it, on newer prices too.",
        examples=(
            "sddp train prices.csv",
            "sddp train prices.csv --iterations 100 --cvar-limit 0.02 --out results/policy",
        ),
    )
    parser.add_argument("prices", metavar="PRICES", help="file of prices")
    add_training_options(parser, out=OUT)


def add_training_options(parser: argparse.ArgumentParser, *, out: str | None) -> None:
    """Options of a training on the last rows, beside the file of prices."""
    add_price_options(parser)
    model_settings.add_model_options(parser, trading=False)
    opt.add_out(parser, out)
    opt.add_resume(parser)


def run(options: argparse.Namespace) -> Result:
    """Estimate, train, write."""
    from sddp.studies.record import Run

    tables = read_tables(options)
    notes = tables.notes()
    settings = settings_for(options, tables, notes)
    described = model_settings.described(settings)
    with Run(options.out, described) as record, opt.store_of(options) as store:
        record.add_input("prices", tables.prices)
        record.add_input("factors", tables.factors)
        view = today(tables, settings, options)
        model, strategy = trained_model(settings, view, store, quiet=options.quiet)
        log = strategy.training_log
        assert log is not None
        model.save(record.out)
        record.write_table("training", log)
        if can_draw():
            from sddp.display.training_figures import bound_figure

            record.write_figure("bound", bound_figure(log, initial_wealth=1.0))
        belief = model.belief(view)
        results = {
            "market": tables.described(),
            "trained_on": model.date,
            "iterations": len(log),
            "bound": model.policy.bound,
            "belief": belief.tolist(),
            "notes": notes.lines,
        }
        record.finish("complete", results)
    return Result(
        {"status": "complete", "out": options.out} | results,
        lambda width: filled(_sentences(model, results, options.out), width),
    )


def settings_for(options: argparse.Namespace, tables: PriceTables, notes: Notes) -> Settings:
    """Settings of one training on the last rows.

    Raises
    ------
    DataError
        There are fewer rows than the window that was asked for.
    """
    from dataclasses import replace

    from sddp.errors import DataError

    settings = model_settings.settings_from(options, tables.defaults)
    n_returns = len(tables.prices) - 1
    if n_returns >= settings.window:
        return settings
    if options.window is not None:
        raise DataError(
            f"--window {options.window}: needs as many rows of returns, and {n_returns} are "
            "there; give a smaller --window or more prices"
        )
    notes.add(f"There are {n_returns + 1} rows: the window is {n_returns} rows.")
    return replace(settings, window=n_returns)


def today(tables: PriceTables, settings: Settings, options: argparse.Namespace) -> View:
    """What is known on the last date of the prices."""
    market = tables.market(settings.cash_rate, options.missing)
    return market.at(market.dates[-1])


def trained_model(
    settings: Settings,
    view: View,
    store: str,
    *,
    quiet: bool,
    holdings: Mapping[str, float] | None = None,
) -> tuple[TrainedModel, MultistageStrategy]:
    """Estimate and train, from holdings or cash, or find what an earlier run of it has kept."""
    from sddp.backtest.today import TrainedModel

    with shown_iterations(settings.iterations, quiet=quiet) as on_iteration:
        strategy = model_settings.strategy(settings, store=store, on_iteration=on_iteration)
        return TrainedModel.of(strategy, view, holdings), strategy


def _sentences(model: TrainedModel, results: dict[str, Any], out: str) -> list[str]:
    belief = results["belief"]
    shares = ", ".join(f"regime {k + 1} {share:.0%}" for k, share in enumerate(belief))
    problem = model.policy.problem
    gain = results["bound"] - 1.0
    return [
        *results["notes"],
        f"Trained on rows up to {model.date:%Y-%m-%d}: {len(problem.asset_names)} assets, "
        f"{problem.n_stages} decisions {model.period} rows apart.",
        f"Upper bound on the expected gain to the horizon: {gain:.3%} after "
        f"{results['iterations']} iterations.",
        f"Today's regime, the calmest first: {shares}.",
        f"The policy is in {out}; sddp decide PRICES --policy {out} decides with it.",
    ]
