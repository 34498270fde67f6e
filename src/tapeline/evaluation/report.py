"""The report of a run: one HTML file that needs no network, no script and no second file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from tapeline.core.whole_file import write_whole
from tapeline.evaluation import plots
from tapeline.evaluation.page import METRIC_NAMES, inlined, is_missing, metric_rows, number, open_template, table
from tapeline.evaluation.result import TrainingResult

__all__ = ["METRIC_NAMES", "NOT_MODELLED", "Report", "headline", "render", "trust_notes", "write_report"]

TEMPLATE: Final = "report.html.j2"
VERDICT_COLUMNS: Final = ("suite", "suite_version", "data_version", "passed", "rows", "rows_refused", "failures", "id")
NOT_MODELLED: Final = (
    "Fills are at the next bar's open and at the label's end, in full: no queue, no partial fill, no latency and no "
    "impact of the order on the price.",
    "Costs are one fee and one half spread a side, the same at every hour; no financing, swap, borrow or tax.",
    "Position size is one fixed notional a trade and symbol; nothing is reinvested, no margin is checked.",
    "Intervals come from resampling blocks of the holdout. They know nothing of regimes that it did not hold.",
)


@dataclass(frozen=True)
class Report:
    """What the report shows.

    Parameters
    ----------
    title:
        A heading, such as the model's name.
    stages:
        A row a stage and symbol: ``stage``, ``symbol``, ``rows_in``, ``rows_out``, ``quarantined``, and what else the
        caller wants shown.
    quarantine:
        ``stage``, ``symbol``, ``reason``, ``rows``; empty where nothing was refused.
    verdicts:
        Validation verdicts: objects or mappings with the fields of ``VERDICT_COLUMNS``, or a frame of them.
    result:
        Of the training run.
    symbol, timeframe, bars, labels, scores:
        Of the one symbol that is drawn; bars, labels and scores are indexed by ``ts``.
    links:
        By name, where each output lies; shown as text.
    """

    title: str
    stages: pd.DataFrame
    quarantine: pd.DataFrame
    verdicts: Sequence[Any] | pd.DataFrame
    result: TrainingResult
    symbol: str
    timeframe: str
    bars: pd.DataFrame
    labels: pd.DataFrame
    scores: pd.DataFrame
    links: Mapping[str, str] = field(default_factory=dict)


def write_report(path: Path, report: Report) -> Path:
    """Render the report and write it in one step, so that a reader never meets half a file.

    Everything interpolated is escaped; pictures are inlined as images, in which no script can run.

    Returns
    -------
    The absolute path.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    return write_whole(path, render(report), what="report")


def render(report: Report) -> str:
    """The report as HTML text; the same report gives the same text."""
    template = open_template(Path(__file__).with_name(TEMPLATE))
    result = report.result
    return template.render(
        report=report,
        result=result,
        span=_span(report),
        symbols=", ".join(sorted(map(str, set(result.holdout["symbol"])))) or report.symbol,
        verdict=headline(result),
        metrics=metric_rows(result.metrics),
        tables={
            "Rows through the stages": table(report.stages),
            "Quarantined rows by reason": table(report.quarantine),
            "Rows that reached training": table(result.dropped),
        },
        verdicts=table(_verdict_frame(report.verdicts)),
        ladder=table(result.cost_ladder),
        calibration=table(result.calibration),
        trials=table(result.trials),
        parameters={name: number(value) for name, value in result.parameters.items()},
        pictures=_pictures(report),
        notes=trust_notes(result),
    )


def _pictures(report: Report) -> list[tuple[str, str]]:
    result = report.result
    scores = report.scores
    if not len(scores):
        mine = result.holdout[result.holdout["symbol"] == report.symbol]
        scores = mine.set_index("ts")[["probability"]]
    drawn = {
        "The last bars of one symbol with their labels, and the model's scores below": plots.bars(
            report.bars, report.labels, scores, symbol=report.symbol, timeframe=report.timeframe
        ),
        "Equity of the holdout's trades": plots.equity(result.equity, result.random_band),
        "Calibration on the holdout": plots.reliability(result.reliability),
        "Probabilities on the holdout": plots.histogram(result.holdout),
        "Feature importance on the holdout": plots.importance(result.importance),
    }
    return [(name, inlined(svg)) for name, svg in drawn.items()]


def _span(report: Report) -> str:
    if report.bars.empty:
        return "no bars"
    index = pd.DatetimeIndex(report.bars.index)
    return f"{index[0]:%Y-%m-%d %H:%M} to {index[-1]:%Y-%m-%d %H:%M} UTC, {len(index):,} bars of {report.symbol}"


def headline(result: TrainingResult) -> str:
    """What the holdout says of the model, in a sentence or two, and no more than its intervals allow."""
    loss = result.metrics.set_index("metric").loc["log_loss"]
    if loss["high"] < loss["majority"]:
        skill = (
            "The model's probabilities were better than the base rate on the holdout, by more than its 95 % interval."
        )
    elif loss["low"] > loss["majority"]:
        skill = (
            "The model's probabilities were worse than the base rate on the holdout, by more than its 95 % interval."
        )
    else:
        skill = "The holdout does not show that the model's probabilities are better than the base rate."
    if result.trades.empty:
        return f"{skill} It made no trade."
    total = float(result.trades["net"].sum())
    interval: Any = result.metrics.set_index("metric").loc["total_return"]
    verb = "made" if total > 0 else "lost"
    return (
        f"{skill} Its {len(result.trades):,} trades {verb} {abs(total):.2%} of a fixed notional after costs "
        f"(95 % interval {interval['low']:+.2%} to {interval['high']:+.2%})."
    )


def trust_notes(result: TrainingResult) -> list[str]:
    """How far the result may be believed: trials, deflated Sharpe ratio, overfitting, and what is not modelled."""
    evidence = result.sharpe.iloc[0]
    deflated = number(evidence["deflated"])
    notes = [
        f"Configurations tried under this model's name so far: {result.trials_total}; models evaluated on a holdout: "
        f"{result.holdout_looks}. The best of many looks good by luck.",
        f"Deflated Sharpe ratio: {deflated}. It is the probability that the trades' Sharpe ratio is better than the "
        f"best of {int(evidence['trials'])} worthless trials would show; below 0.95 it proves nothing. "
        f"Trades behind it: {int(evidence['returns']):,}.",
    ]
    needed = float(evidence["minimum_length"])
    if math.isfinite(needed):
        notes.append(
            f"At this Sharpe ratio it would take {math.ceil(needed):,} trades to be 95 % sure that it is above 0."
        )
    else:
        notes.append("The Sharpe ratio is not above 0: no length of record could show that it is.")
    return [*notes, *_overfitting_notes(result), *NOT_MODELLED]


def _overfitting_notes(result: TrainingResult) -> list[str]:
    notes = [f"Why these families of models were tried: {result.family_reason}."] if result.family_reason else []
    if result.overfitting.empty:
        return notes
    found = result.overfitting.iloc[0]
    lenient = number(result.sharpe.iloc[0].get("deflated_effective"))
    notes.append(
        f"Trials that resemble each other are fewer chances: {int(found['trials'])} counted, about "
        f"{number(float(found['effective_trials']))} independent ones. Against the best of so few the deflated Sharpe "
        f"ratio is {lenient}. For them a backtest should span {number(float(found['years_needed']))} years, lest a "
        f"worthless one show an annual ratio of 1; tuning saw {number(float(found['years']))}."
    )
    if is_missing(found["pbo"]):
        notes.append("Probability of backtest overfitting: unknown, for fewer than two trials came to their end.")
    else:
        notes.append(
            f"Probability of backtest overfitting: {float(found['pbo']):.0%}. In that share of "
            f"{int(found['splits']):,} ways to split {int(found['days']):,} days in halves, the best of "
            f"{int(found['trials_with_returns'])} trials in one half was no better than the median in the other; "
            f"it lost there in {float(found['probability_of_loss']):.0%}."
        )
    return notes


def _verdict_frame(verdicts: Sequence[Any] | pd.DataFrame) -> pd.DataFrame:
    if isinstance(verdicts, pd.DataFrame):
        return verdicts[[name for name in VERDICT_COLUMNS if name in verdicts.columns]]
    rows = [
        {
            name: verdict.get(name, "") if isinstance(verdict, Mapping) else getattr(verdict, name, "")
            for name in VERDICT_COLUMNS
        }
        for verdict in verdicts
    ]
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))
