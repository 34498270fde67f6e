"""``tapeline models performance`` and ``tapeline models retrain``: how a model does in use, and training it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tapeline.console import print_table, say

if TYPE_CHECKING:
    from tasks.job import Job

Name = Annotated[str, typer.Argument(help="The registered model, such as direction-H1-EURUSD.")]
OfSymbols = Annotated[
    str | None, typer.Option(help="Comma-separated: EURUSD,BTC/USDT; where absent, those that the model has scored.")
]
OfTimeframe = Annotated[str, typer.Option(help="M1, M5, M15, H1, H4, D1, ..., where symbols are named.")]


def models_performance(
    name: Name,
    symbols: OfSymbols = None,
    timeframe: OfTimeframe = "H1",
    metric: Annotated[
        str, typer.Option(help="log_loss, brier, auc, accuracy, calibration_error, bias, or all.")
    ] = "log_loss",
) -> None:
    """How each version did, by month and as a whole: live, in the shadow, on its holdout and in backtests."""
    from tapeline.core.errors import ConfigurationError
    from tapeline.models.performance import METRICS
    from tasks.performance import track_model

    if metric not in (*METRICS, "all"):
        raise ConfigurationError(f"metric {metric!r} is unknown", hint=f"one of {', '.join(METRICS)}, all")
    tracked = track_model.fn(name, jobs_of(name, symbols, timeframe))
    table = tracked.table if metric == "all" else tracked.table[tracked.table["metric"] == metric]
    if table.empty:
        say(f"Nothing of '{name}' can be judged: no score's outcome is known yet.")
        return
    shown = table.assign(period=table["period"].astype(str) + table["ts"].dt.strftime(" %Y-%m-%d"))
    shown = shown.sort_values(["metric", "ts", "model_version", "origin"], kind="stable")
    columns = ["metric", "period", "model_version", "origin", "rows", "value", "low", "high"]
    print_table(name, shown[columns].rename(columns={"model_version": "version"}))
    if tracked.page is not None:
        say(f"Picture {tracked.page.as_uri()}")


def models_retrain(
    name: Name,
    symbols: OfSymbols = None,
    timeframe: OfTimeframe = "H1",
    if_needed: Annotated[bool, typer.Option(help="Only where the schedule would, too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say whether there is reason to; train and promote nothing.")] = False,
) -> None:
    """Train a model again on what the lake holds; it becomes the champion only where it is better out of sample."""
    from tapeline.cli import orchestration

    with orchestration():
        from flows.lifecycle import lifecycle

        jobs = jobs_of(name, symbols, timeframe)
        run = lifecycle(
            symbols=[str(job.symbol) for job in jobs],
            timeframe=str(jobs[0].timeframe),
            model=name,
            manual=not (if_needed or dry_run),
            dry_run=dry_run,
        )
    say(f"{name}: {run.decision.text}")
    for alarm in run.alarms:
        say(f"drift: {alarm}")
    if run.live is not None:
        say(f"challenger {run.live.version}, {'promoted' if run.live.promoted else 'not promoted'}: {run.live.reason}")
    if run.result is not None:
        state = "the champion" if run.result.promoted else "not promoted"
        say(f"version {run.result.model_version}, {state}: {run.result.reason}")


def jobs_of(name: str, symbols: str | None, timeframe: str) -> list[Job]:
    """The series that were named, else those that the model has scored.

    Raises
    ------
    ConfigurationError
        None was named, and the model has scored nothing.
    """
    from tapeline.cli import split_symbols
    from tapeline.core.errors import ConfigurationError
    from tasks.job import plan_jobs
    from tasks.performance import scored_series

    if symbols is not None:
        return plan_jobs("local", "", split_symbols(symbols), timeframe, None, None)
    found = scored_series(name)
    if not found:
        raise ConfigurationError(
            f"model '{name}' has scored nothing", hint="train it first ('tapeline run'), or name --symbols"
        )
    timeframes = sorted({str(of) for _, of in found})
    if len(timeframes) > 1:
        raise ConfigurationError(f"model '{name}' has scored {', '.join(timeframes)}", hint="name --symbols")
    return plan_jobs("local", "", [str(symbol) for symbol, _ in found], timeframes[0], None, None)
