"""The catalogue of metrics: every name that Tapeline measures under, what it means, its unit and its labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tapeline.core.errors import ConfigurationError

Kind = Literal["counter", "gauge", "histogram"]

DAY: Final = 86_400.0
_NAME: Final = re.compile(r"tapeline_[a-z0-9]+(?:_[a-z0-9]+)*")
_LABEL: Final = re.compile(r"[a-z][a-z0-9_]*")
SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0)
"""Bucket bounds of durations: from the stage that finds nothing to do to the training of an hour."""


@dataclass(frozen=True)
class Metric:
    """What one metric is.

    Parameters
    ----------
    name:
        As Prometheus's conventions have it: ``tapeline_``, what, the base unit (``_seconds``, ``_bytes``, ``_ratio``),
        and ``_total`` for a counter.
    kind:
        ``counter`` only grows; ``gauge`` is the newest value; ``histogram`` counts observations below bounds.
    help:
        One sentence for whoever reads the dashboard.
    labels:
        What tells two series of it apart; the values of each must be few.
    bounds:
        Upper bounds of a histogram's buckets, ascending; the one above all is added.
    lifetime:
        Seconds after which a gauge that nobody renewed is no longer shown: an old number must not pass for a new one.

    Raises
    ------
    ConfigurationError
        A name or label against the conventions.

    Examples
    --------
    >>> Metric("tapeline_rows", "counter", "Rows.", ("stage",))
    Traceback (most recent call last):
        ...
    tapeline.core.errors.ConfigurationError: the counter tapeline_rows must end in _total
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    lifetime: float = 7 * DAY

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"{self.name!r} is not the name of a metric", hint="lower case, digits and _, beginning with tapeline_"
            )
        if (self.kind == "counter") != self.name.endswith("_total"):
            says = "must end in _total" if self.kind == "counter" else "must not end in _total"
            raise ConfigurationError(f"the {self.kind} {self.name} {says}")
        for label in self.labels:
            if not _LABEL.fullmatch(label) or label in ("le", "quantile"):
                raise ConfigurationError(f"{self.name}: {label!r} is not a label")
        if (self.kind == "histogram") != bool(self.bounds) or list(self.bounds) != sorted(set(self.bounds)):
            raise ConfigurationError(f"{self.name}: a histogram, and nothing else, has ascending bounds")


def _catalogue(*metrics: Metric) -> Mapping[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: Final = _catalogue(
    Metric("tapeline_stage_duration_seconds", "histogram", "Wall time of a stage.", ("flow", "stage"), SECONDS),
    Metric(
        "tapeline_stage_cpu_seconds_total",
        "counter",
        "Processor time of the thread that ran a stage.",
        ("flow", "stage"),
    ),
    Metric("tapeline_stage_runs_total", "counter", "Ended stages by outcome.", ("flow", "stage", "outcome")),
    Metric("tapeline_stage_failures_total", "counter", "Failed stages by error.", ("flow", "stage", "error")),
    Metric("tapeline_stage_rows_total", "counter", "Rows into and out of stages.", ("flow", "stage", "direction")),
    Metric(
        "tapeline_stage_last_success_timestamp_seconds",
        "gauge",
        "When a stage last finished (POSIX).",
        ("flow", "stage"),
        lifetime=365 * DAY,
    ),
    Metric("tapeline_rows_quarantined_total", "counter", "Rows put into quarantine.", ("stage", "reason")),
    Metric("tapeline_checks_total", "counter", "Checks of a batch.", ("stage", "check", "outcome")),
    Metric("tapeline_gate_verdicts_total", "counter", "Verdicts of the gates.", ("stage", "suite", "verdict")),
    Metric("tapeline_flow_runs_total", "counter", "Ended flow runs by state.", ("flow", "state")),
    Metric("tapeline_flow_duration_seconds", "histogram", "Wall time of a flow run.", ("flow",), SECONDS),
    Metric("tapeline_notifications_total", "counter", "Notifications by what became of them.", ("channel", "outcome")),
    Metric("tapeline_feed_lag_seconds", "gauge", "Arrival less exchange time of the newest.", ("feed",), lifetime=900),
    Metric("tapeline_feed_messages_total", "counter", "Messages that a live feed received.", ("feed",)),
    Metric("tapeline_feed_rows_total", "counter", "Rows that a live feed stored.", ("feed", "table")),
    Metric("tapeline_feed_reconnects_total", "counter", "New connections after a loss.", ("feed",)),
    Metric("tapeline_feed_gaps_total", "counter", "Gaps in a feed's sequence.", ("feed",)),
    Metric("tapeline_feed_buffer_rows", "gauge", "Rows that wait in a feed's buffer.", ("feed",), lifetime=900),
    Metric("tapeline_feed_state", "gauge", "1 in the state that a feed is in.", ("feed", "state"), lifetime=900),
    Metric("tapeline_feed_alerts_total", "counter", "Alerts that feeds raised.", ("feed", "kind")),
    Metric("tapeline_clock_offset_seconds", "gauge", "Reference time less the local clock.", ("reference",)),
    Metric("tapeline_clock_drift_seconds", "gauge", "A feed's clock less reference time.", ("feed",)),
    Metric("tapeline_unfilled_gaps", "gauge", "Gaps that ought to hold bars.", ("symbol", "timeframe")),
    Metric("tapeline_quality_score", "gauge", "Score of the newest scored day, 0 to 1.", ("symbol", "timeframe")),
    Metric("tapeline_drift_alarms", "gauge", "Alarms of the last drift check.", ("symbol", "timeframe")),
    Metric(
        "tapeline_model_drift_alarms",
        "gauge",
        "Alarms of the last check of a model's scores and outcomes.",
        ("model", "symbol", "timeframe"),
    ),
    Metric(
        "tapeline_model_log_loss",
        "gauge",
        "Log loss of a model version, of all outcomes known.",
        ("model", "version", "origin"),
    ),
    Metric(
        "tapeline_model_auc",
        "gauge",
        "Area under the ROC curve of a model version, of all outcomes known.",
        ("model", "version", "origin"),
    ),
    Metric("tapeline_retrain_wanted", "gauge", "1 where there is reason to train a model again.", ("model",)),
    Metric("tapeline_series_dropped_total", "counter", "Updates of too many series of a metric.", ("metric",)),
    Metric(
        "tapeline_freshness_seconds", "gauge", "Now less the newest stored close.", ("table", "symbol", "timeframe")
    ),
    Metric(
        "tapeline_open_freshness_seconds",
        "gauge",
        "Time since the newest stored close in which the market was open.",
        ("table", "symbol", "timeframe"),
    ),
    Metric("tapeline_timeframe_seconds", "gauge", "Length of a timeframe's bar.", ("timeframe",)),
    Metric("tapeline_lake_series", "gauge", "Series that the lake holds."),
    Metric("tapeline_lake_rows", "gauge", "Rows of a series.", ("table", "symbol", "timeframe")),
    Metric("tapeline_lake_size_bytes", "gauge", "Bytes of a series on disk.", ("table", "symbol", "timeframe")),
    Metric(
        "tapeline_lake_missing_bars", "gauge", "Bars absent between first and last.", ("table", "symbol", "timeframe")
    ),
    Metric("tapeline_lake_scan_seconds", "gauge", "How long the lake's inventory took."),
    Metric("tapeline_exporter_problems", "gauge", "Parts that the last scrape could not read.", ("part",)),
)
"""Every declared metric by its name."""


def metric_of(name: str, labels: Mapping[str, object] | None = None) -> Metric:
    """The declared metric of a name; an undeclared one is a counter where it ends in ``_total``, else a gauge.

    Raises
    ------
    ConfigurationError
        The name is against the conventions, or a declared metric is given other labels than its own.

    Examples
    --------
    >>> metric_of("tapeline_stage_rows_total").kind, metric_of("tapeline_something_bytes").kind
    ('counter', 'gauge')
    """
    given = tuple(labels or ())
    declared = METRICS.get(name)
    if declared is None:
        kind: Kind = "counter" if name.endswith("_total") else "gauge"
        return Metric(name, kind, "Not in the catalogue.", tuple(sorted(given)))
    if labels is not None and set(given) != set(declared.labels):
        raise ConfigurationError(
            f"{name} has the labels {list(declared.labels)}, was given {sorted(given)}",
            hint="the catalogue of metrics stands in tapeline.monitoring.metrics",
        )
    return declared
