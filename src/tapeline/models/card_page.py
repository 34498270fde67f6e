"""A model card as a page, as Markdown and as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pandas as pd

from tapeline.core.whole_file import write_whole
from tapeline.evaluation import plots
from tapeline.evaluation.page import inlined, is_missing, metric_rows, number, open_template, table
from tapeline.evaluation.report import headline, trust_notes
from tapeline.models.model_card import ExplainedRow, ModelCard

TEMPLATE: Final = "model_card.html.j2"
CARD_FILE: Final = "card.html"
NUMBERS_FILE: Final = "card.json"
SHOWN_FEATURES: Final = 15
SHOWN_CONDITIONS: Final = 8
_METRIC_WORDS: Final = {
    "auc": "Area under the ROC curve",
    "log_loss": "Log loss (nats)",
    "skill": "Skill: log loss saved against the base rate",
    "total_return": "Total return after costs (share of notional)",
    "sharpe_annual": "Sharpe ratio after costs, a year",
    "percentile_of_random_entries": "Percentile among random entries",
}


def write_card(path: Path, card: ModelCard) -> Path:
    """Render the card and write it in one step; DataError where it cannot be written. Returns its absolute path."""
    return write_whole(path, render_card(card), what="model card")


def write_card_files(folder: Path, card: ModelCard) -> None:
    """Write the card as a page (``card.html``) and as numbers (``card.json``) into a folder."""
    write_card(folder / CARD_FILE, card)
    write_whole(folder / NUMBERS_FILE, json.dumps(card_numbers(card), indent=1, allow_nan=False), what="model card")


def render_card(card: ModelCard) -> str:
    """The card as HTML text, without script, network or second file; the same card gives the same text."""
    result = card.result
    template = open_template(Path(plots.__file__).with_name(TEMPLATE))
    return template.render(
        card=card,
        result=result,
        verdict=headline(result),
        symbols=", ".join(sorted(set(card.coverage["symbol"]))),
        span=_span(card),
        use=intended_use(card),
        limits=limits(card),
        notes=[note for note in trust_notes(result) if note not in limits(card)],
        metrics=metric_rows(result.metrics),
        parameters={name: number(value) for name, value in result.parameters.items()},
        label={name: number(value) for name, value in _flat(result.label).items()},
        coverage=table(_readable_coverage(card.coverage)),
        ranges=table(_readable_features(card)),
        slices=_flush_right(table(_readable_slices(card.slices))),
        importance=table(_readable_importance(card.importance)),
        explained=[_explained(one) for one in card.explained],
        paths=None if card.paths is None else table(_readable_paths(card.paths.summary)),
        walks=[(walk.kind, table(_readable_steps(walk.steps)), table(_readable_walk(walk))) for walk in card.walks],
        pictures=_pictures(card),
    )


def limits(card: ModelCard) -> list[str]:
    """What the model is not for and where it was seen to fail, each sentence computed from the data."""
    found = [
        f"It learnt from {_span(card)}, of {', '.join(sorted(set(card.coverage['symbol'])))}. Of other symbols, "
        "timeframes and times it knows nothing.",
        _trained_share(card),
    ]
    missing = float(card.features["missing_holdout"].mean())
    found.append(
        f"{missing:.1%} of the holdout's feature values were missing; "
        f"{card.outside:.1%} of its rows had at least one feature beyond what the development rows held. On such rows "
        "a score is an extrapolation."
    )
    worse = card.slices[(card.slices["p_holm"] < 0.05) & (card.slices["difference"] < 0)]
    better = card.slices[(card.slices["p_holm"] < 0.05) & (card.slices["difference"] > 0)]
    for verb, rows in (("worse", worse), ("better", better)):
        found += [
            f"It is {verb} where {row['slicing']} is '{row['slice']}' than in all: skill {number(row['skill'])} "
            f"against {number(float(card.slices['skill'].iloc[0]))} nats, p = {number(row['p_holm'])} after Holm's "
            "correction."
            for row in rows.to_dict("records")
        ]
    tested = int(card.slices["p_value"].notna().sum())
    small = int(card.slices["note"].fillna("").ne("").sum())
    if not len(worse) and not len(better):
        found.append(
            f"None of {tested} slices differs from all by more than luck explains; too small to judge: "
            f"{small}. That a difference is not shown does not show that there is none."
        )
    if card.paths is not None:
        low = card.paths.summary.set_index("metric")["bad"]
        found.append(
            f"Along the worst of {len(card.paths.paths)} histories (5 % quantile) the area under the curve was "
            f"{number(float(low['auc']))} and the net return {number(float(low['total_return']))} of notional."
        )
    return [*found, *card.absent]


def intended_use(card: ModelCard) -> str:
    """What the model says, of what, and how far ahead."""
    median, longest = card.reach
    return (
        f"The calibrated probability that the label of a decision is positive, of {', '.join(_symbols(card))}. A label "
        f"becomes known {_length(median)} after its decision, {_length(longest)} at the latest. It is an input to "
        "decisions about positions; it knows no size, no stop and no account."
    )


def card_markdown(card: ModelCard, *, link: str = "") -> str:
    """The card in short, for a page that shows Markdown."""
    result = card.result
    lines = [f"**{result.name}**, version {result.model_version}: {headline(result)}", "", f"- {intended_use(card)}"]
    lines += [f"- {text}" for text in limits(card)]
    lines += ["", "| metric | value | 95 % interval | majority | random | logistic |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['name']} | {row['value']} | {row['interval']} | {row['majority']} | {row['random']} | "
        f"{row['logistic']} |"
        for row in metric_rows(result.metrics)
    ]
    if link:
        lines += ["", f"The whole card: {link}"]
    return "\n".join(lines)


def card_numbers(card: ModelCard) -> dict[str, Any]:
    """The card as plain data that JSON keeps: tables as lists of rows, missing numbers as null."""
    result = card.result
    return {
        "name": result.name,
        "version": result.model_version,
        "run_id": result.run_id,
        "family": result.family,
        "parameters": {name: _plain(value) for name, value in result.parameters.items()},
        "versions": {**asdict(result.versions), "code": card.code, "model_sha256": result.booster_sha256},
        "label": {name: _plain(value) for name, value in _flat(result.label).items()},
        "intended_use": intended_use(card),
        "limits": limits(card),
        "metrics": _rows(result.metrics),
        "sharpe": _rows(result.sharpe),
        "overfitting": _rows(result.overfitting),
        "coverage": _rows(card.coverage),
        "features": _rows(card.features),
        "outside": card.outside,
        "reliability": _rows(card.reliability),
        "slices": _rows(card.slices),
        "importance": _rows(card.importance),
        "shap_method": card.shap_method,
        "explained": [
            {
                "kind": one.kind,
                "symbol": str(one.row["symbol"]),
                "t0": pd.Timestamp(one.row["t0"]).isoformat(),
                "y": int(one.row["y"]),
                "probability": one.explanation.probability,
                "r_squared": one.explanation.r_squared,
                "weights": _rows(one.explanation.weights),
            }
            for one in card.explained
        ],
        "paths": None if card.paths is None else _rows(card.paths.paths),
        "path_summary": None if card.paths is None else _rows(card.paths.summary),
        "walks": [
            {"kind": walk.kind, "steps": _rows(walk.steps), "symbols": _rows(walk.symbols), "total": _rows(walk.total)}
            for walk in card.walks
        ],
    }


def _pictures(card: ModelCard) -> dict[str, str]:
    drawn = {
        "reliability": plots.reliability(card.reliability),
        "histogram": plots.histogram(card.result.holdout),
        "equity": plots.equity(card.result.equity, card.result.random_band),
        "importance": plots.importance(card.importance.rename(columns={"shap": "mean_abs_shap"}), count=SHOWN_FEATURES),
    }
    if card.slices["skill_low"].notna().any():
        drawn["slices"] = plots.slices(card.slices)
    if card.paths is not None:
        drawn["paths"] = plots.paths(card.paths.paths)
    if card.walks:
        drawn["walks"] = plots.walks({walk.kind: walk.steps for walk in card.walks})
    return {name: inlined(svg) for name, svg in drawn.items()}


def _explained(one: ExplainedRow) -> dict[str, Any]:
    words = {
        "best": "The surest decision that came true",
        "worst": "The surest decision that did not",
        "typical": "A typical decision",
    }
    row, found = one.row, one.explanation
    said, fate = float(row["probability"]), "rose" if row["y"] == 1 else "fell"
    flat = not (found.weights["weight"].abs() > 1e-9).any()
    return {
        "title": words[one.kind],
        "text": (
            f"{row['symbol']}, decided {pd.Timestamp(row['t0']):%Y-%m-%d %H:%M} UTC: {said:.1%} for a rise "
            f"({found.probability:.1%} before calibration); it {fate}."
        ),
        "fit": (
            "Nothing nearby changes the score."
            if flat
            else f"The local model explains {max(found.r_squared, 0.0):.0%} of what the score does nearby"
            + (": read it with caution." if found.r_squared < 0.5 else ".")
        ),
        "picture": "" if flat else inlined(plots.local(found.weights, count=SHOWN_CONDITIONS)),
    }


def _readable_coverage(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(
        first=frame["first"].dt.strftime("%Y-%m-%d %H:%M"),
        last=frame["last"].dt.strftime("%Y-%m-%d %H:%M"),
        rises=[f"{value:.1%}" for value in frame["rises"]],
        missing=[f"{value:.1%}" for value in frame["missing"]],
    ).rename(columns={"first": "first decision, UTC", "last": "last decision, UTC", "missing": "values missing"})


def _readable_features(card: ModelCard) -> pd.DataFrame:
    frame = card.features
    worst = frame.assign(trouble=frame[["outside", "missing_holdout"]].max(axis=1))
    shown = worst[worst["trouble"] > 0].sort_values(["trouble", "feature"], ascending=[False, True])
    shown = shown.head(SHOWN_FEATURES).drop(columns="trouble")
    for name in ("missing_development", "missing_holdout", "outside"):
        shown[name] = [f"{value:.1%}" for value in shown[name]]
    return shown.rename(columns={"outside": "holdout beyond the range"})


def _readable_slices(frame: pd.DataFrame) -> pd.DataFrame:
    def between(row: Mapping[Any, Any], name: str, digits: int, scale: float = 1.0) -> str:
        value, low, high = (row[f"{name}{side}"] for side in ("", "_low", "_high"))
        if is_missing(value):
            return number(None)
        # Rounded before it is formatted, and 0 added: no number is shown as minus zero.
        text, *ends = (f"{round(scale * one, digits) + 0.0:.{digits}f}" for one in (value, low, high))
        return text if is_missing(low) else f"{text} ({' to '.join(ends)})"

    rows = [
        {
            "sliced by": "" if row["slicing"] == "all" else row["slicing"],
            "slice": row["slice"],
            "rows": row["rows"],
            "AUC (95 %)": between(row, "auc", 3),
            "skill, 1/1000 nat (95 %)": between(row, "skill", 1, 1000),
            "trades": number(row["trades"]),
            "mean trade, bp (95 %)": between(row, "mean_trade_bps", 1),
            "calibration error (by chance)": f"{row['ece']:.3f} ({row['ece_by_chance']:.3f})",
            "p against all, Holm": number(row["p_holm"]),
            "note": row["note"],
        }
        for row in frame.to_dict("records")
    ]
    made = pd.DataFrame(rows)
    return made.drop(columns=[name for name in ("trades", "mean trade, bp (95 %)") if frame["trades"].isna().all()])


def _flush_right(made: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Texts that are numbers with their intervals, set as numbers are."""
    texts = {"sliced by", "slice", "note"}
    right = [column not in texts for column in made["columns"]]
    return {
        "columns": made["columns"],
        "rows": [[(text, flag) for (text, _), flag in zip(row, right, strict=True)] for row in made["rows"]],
    }


def _readable_importance(frame: pd.DataFrame) -> pd.DataFrame:
    shown = frame.head(SHOWN_FEATURES)
    return pd.DataFrame(
        {
            "rank": shown["rank"].astype(int),
            "feature": shown["feature"],
            "mean |SHAP|, log odds": shown["shap"],
            "share": [f"{value:.1%}" for value in shown["shap_share"]],
            "permutation: log loss rises by": shown["permutation"],
            "permutation rank": shown["permutation_rank"].astype(int),
        }
    )


def _readable_paths(summary: pd.DataFrame) -> pd.DataFrame:
    names = {"bad": "5 % worst", "deviation": "deviation between paths"}
    return summary.assign(metric=summary["metric"].map(_METRIC_WORDS)).rename(columns=names)


def _readable_steps(steps: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fit": steps["fit"],
            "version": [str(version)[:12] for version in steps["fit_version"]],
            "labels known until": steps["known_until"].dt.strftime("%Y-%m-%d %H:%M"),
            "trained rows": steps["trained_rows"],
            "tested": [
                f"{row.tested_from:%Y-%m-%d} to {row.tested_until:%Y-%m-%d}" for row in steps.itertuples(index=False)
            ],
            "rows": steps["tested_rows"],
            "AUC": steps["auc"],
            "skill": steps["skill"],
            "net return": steps["net"],
        }
    )


def _readable_walk(walk: Any) -> pd.DataFrame:
    # One symbol's row would repeat that of all.
    shown = walk.symbols if len(walk.symbols) > 2 else walk.symbols.head(1)
    intervals = [f"{number(row.auc_low)} to {number(row.auc_high)}" for row in shown.itertuples(index=False)]
    percentile = [number(float(walk.total["percentile_of_random_entries"].iloc[0])), *[""] * (len(shown) - 1)]
    return pd.DataFrame(
        {
            "symbol": shown["symbol"],
            "rows": shown["rows"],
            "AUC": shown["auc"],
            "95 %": intervals,
            "trades": shown["trades"],
            "net return": shown["net"],
            "percentile among random entries": percentile,
        }
    )


def _trained_share(card: ModelCard) -> str:
    dropped = card.result.dropped
    if {"rows_in", "ambiguous", "unlabelled", "warm_up"} - set(dropped.columns) or not dropped["rows_in"].sum():
        return "What became of rows before training was not recorded."
    total = int(dropped["rows_in"].sum())
    return (
        f"Of {total:,} feature rows {int(dropped['ambiguous'].sum()) / total:.1%} had an ambiguous label and "
        f"{int(dropped['warm_up'].sum()) / total:.1%} were in their warm-up: it did not learn from them and was not "
        "judged on them, yet live rows of the first kind are scored too."
    )


def _span(card: ModelCard) -> str:
    mine = card.coverage[card.coverage["part"] == "development"]
    return f"{mine['first'].min():%Y-%m-%d} to {mine['last'].max():%Y-%m-%d}"


def _symbols(card: ModelCard) -> list[str]:
    return sorted(set(card.coverage["symbol"]))


def _length(time: pd.Timedelta) -> str:
    hours = time.total_seconds() / 3600
    if hours < 1:
        return f"{hours * 60:.3g} minutes"
    return f"{hours:.3g} hours" if hours < 72 else f"{hours / 24:.3g} days"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not hasattr(value, "items"):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _flat(part, f"{prefix}.{name}" if prefix else str(name))
    return found


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str | bool | None) else str(value)
