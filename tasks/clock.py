"""The clock check: references measured, stored, drawn, and told where one is surely off."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tapeline.clock.drift import plot_drift
from tapeline.clock.offset import OffsetSample
from tapeline.clock.probes import MILLISECOND, SECOND, Probe, Stopwatch
from tapeline.clock.references import parse_reference
from tapeline.clock.time_sync import TimeSync
from tapeline.core.errors import ConfigurationError, TapelineError, TemporaryError
from tapeline.core.schemas import CLOCK
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.monitoring.notification import Notification, Severity
from tapeline.monitoring.notifier import Notifier
from tapeline.sources.broker_clock import offsets_file, store_offset
from tapeline.sources.broker_probe import BrokerProbe
from tasks.job import open_lake
from tasks.observe import measure, observed

PICTURE: Final = "clock.png"
BROKER: Final = "mt5:"
CLEAR: Final = 0.8
"""Share of the threshold below which an alert is over, so that an offset at the threshold does not flap."""
REMEMBERED: Final = pd.Timedelta(hours=2)
"""Stored samples so young still bound the estimate; older ones would add more error than they take away."""
WINDOW: Final = 32
_TICK: Final = Timeframe.parse("tick")


@dataclass(frozen=True)
class Reference:
    """A clock to ask: its name, what kind of reference it is, and the probe that asks it."""

    name: str
    kind: str
    probe: Probe


@dataclass
class ClockReport:
    """What a check found: one row a reference, the alerts that it raised and cleared, and where the picture lies.

    ``table`` has ``offset_ms``, ``error_ms``, ``round_trip_ms``, ``samples`` of this check, ``state`` (``good``,
    ``near`` the threshold, ``off``, ``silent``) and ``problem`` by reference.
    """

    table: pd.DataFrame
    raised: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    picture: Path | None = None


class Recorded:
    """A probe that keeps what it measured."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.samples: list[OffsetSample] = []

    def measure(self) -> OffsetSample:
        """Measure and keep."""
        self.samples.append(self._probe.measure())
        return self.samples[-1]


def open_references(settings: Settings, *, clock: Stopwatch | None = None) -> list[Reference]:
    """The references of ``clock.references``; ConfigurationError where one is not understood or there is none."""
    found = []
    for name, text in settings.clock.references.items():
        Symbol.parse(name)  # it names a folder of the lake
        if text.startswith(BROKER):
            from tapeline.sources.metatrader_session import open_gateway

            gateway = open_gateway(settings.metatrader, settings.network)
            probe: Probe = BrokerProbe(gateway, str(Symbol.parse(text.removeprefix(BROKER))), clock=clock)
            found.append(Reference(name, "broker", probe))
        else:
            kind, probe = parse_reference(text, timeout=settings.clock.timeout_seconds, clock=clock)
            found.append(Reference(name, kind, probe))
    if not found:
        raise ConfigurationError("no clock to measure against", hint="name one in clock.references")
    return found


@task(task_run_name="check clocks", cache_policy=NO_CACHE, tags=["clock"])
def check_clocks(notifier: Notifier, run_id: str = "") -> ClockReport:
    """Measure the references of the settings, store and draw what they said, tell what is off, show it as artifacts."""
    settings, lake = open_lake()
    with observed("clock", "clock", run_id=run_id) as seen:
        report = measure_clocks(settings, lake, open_references(settings), notifier, run_id=run_id)
        answered = report.table["state"] != "silent"
        seen.count(rows_in=len(report.table), rows_out=int(answered.sum()))
    for name, row in report.table[answered].iterrows():
        measure("tapeline_clock_offset_seconds", row["offset_ms"] / 1e3, reference=name)
        if row["state"] == "off":
            get_run_logger().warning("the clock of %s is %+.3f s from ours", name, row["offset_ms"] / 1e3)
    shown = report.table.astype(object).where(report.table.notna(), None).reset_index()
    rows = [{str(name): value for name, value in row.items()} for row in shown.to_dict("records")]
    create_table_artifact(rows, key="clock", description="Reference time less local time, ms")
    if report.picture is not None:
        create_link_artifact(report.picture.as_uri(), key="clock-history", link_text="Offsets over time")
    if not answered.any():
        raise TemporaryError(
            "no reference clock answered: " + "; ".join(report.table["problem"]), hint="look at clock.references"
        )
    return report


def measure_clocks(
    settings: Settings, lake: Lake, references: list[Reference], notifier: Notifier, *, run_id: str = ""
) -> ClockReport:
    """Ask every reference ``clock.samples`` times and judge the estimates; the work behind the task.

    A reference is ``off`` where its whole interval lies beyond the threshold: an offset that might be within it is not
    told. What was measured in the last two hours bounds the estimate too, so that the second-coarse clocks close in on
    milliseconds. An alert is told when it begins and when it is over, however often it is seen in between.
    """
    recorded = {reference.name: Recorded(reference.probe) for reference in references}
    sync = TimeSync(recorded, window=WINDOW)
    for reference in references:
        for sample in stored_samples(lake, reference.name):
            sync.add(reference.name, sample)
    problems: dict[str, TapelineError] = {}
    for number in range(settings.clock.samples):
        for name, error in sync.measure().items():
            problems.setdefault(name, error)
        if number == 0 and len(problems) == len(references):
            break  # nobody answers: no need to wait for each of them again
    rows = {}
    for reference in references:
        samples = recorded[reference.name].samples
        if samples:
            _store(settings, lake, reference, samples, run_id)
        rows[reference.name] = _judge(reference, samples, sync, problems.get(reference.name), settings)
    report = ClockReport(pd.DataFrame.from_dict(rows, orient="index").rename_axis("reference"))
    _tell(report, notifier)
    report.picture = draw_history(settings, lake, [reference.name for reference in references])
    return report


def stored_samples(lake: Lake, name: str, span: pd.Timedelta = REMEMBERED) -> list[OffsetSample]:
    """The stored measurements of a reference within a time of its newest, oldest first."""
    last = lake.last(CLOCK, Symbol.parse(name), _TICK)
    if last is None:
        return []
    held = lake.read(CLOCK, Symbol.parse(name), _TICK, start=last - span)
    columns = (held["offset"], held["error"], held["round_trip"], pd.DatetimeIndex(held.index).asi8)
    return [OffsetSample(*map(int, row)) for row in zip(*columns, strict=True)]


def draw_history(settings: Settings, lake: Lake, names: list[str]) -> Path | None:
    """The stored offsets of the references as a picture, with their error bounds; None where nothing is stored."""
    parts = []
    span = pd.Timedelta(days=settings.clock.history_days)
    for name in names:
        last = lake.last(CLOCK, Symbol.parse(name), _TICK)
        if last is None:
            continue
        held = lake.read(CLOCK, Symbol.parse(name), _TICK, start=last - span)
        # Of each minute the measurement with the narrowest bound: the round trips of one check stand close together.
        best = held.assign(minute=pd.DatetimeIndex(held.index).floor("min")).sort_values(
            ["minute", "error"], kind="stable"
        )
        best = best[~best["minute"].duplicated()]
        low, high = best["offset"] - best["error"], best["offset"] + best["error"]
        parts.append(
            pd.DataFrame({"feed": name, "median_ms": best["offset"] / 1e6, "low_ms": low / 1e6, "high_ms": high / 1e6})
        )
    if not parts:
        return None
    threshold = round(settings.clock.threshold_seconds * SECOND)
    figure = plot_drift(pd.concat(parts), threshold=threshold, label="reference time less local time")
    settings.reports_path.mkdir(parents=True, exist_ok=True)
    path = settings.reports_path / PICTURE
    scratch = path.with_suffix(".tmp.png")
    figure.savefig(scratch, dpi=110)
    return scratch.replace(path)


def _store(settings: Settings, lake: Lake, reference: Reference, samples: list[OffsetSample], run_id: str) -> None:
    hours = reference.probe.zone_offset_hours if isinstance(reference.probe, BrokerProbe) else None
    index = pd.DatetimeIndex(pd.to_datetime([sample.at for sample in samples], unit="ns", utc=True), name="ts")
    frame = pd.DataFrame(
        {
            "source": reference.name,
            "kind": reference.kind,
            "offset": [sample.offset for sample in samples],
            "error": [sample.error for sample in samples],
            "round_trip": [sample.delay for sample in samples],
            "zone_offset_hours": pd.Series([hours] * len(samples), dtype="float64").to_numpy(),
        },
        index=index.as_unit("ns"),
    )
    lineage = Lineage(run_id or "local", "clock")
    lake.write(CLOCK, frame[~frame.index.duplicated()], Symbol.parse(reference.name), _TICK, lineage=lineage)
    if isinstance(reference.probe, BrokerProbe) and hours is not None:
        store_offset(offsets_file(settings.state_path), reference.probe.server, index[-1], hours)


def _judge(
    reference: Reference, samples: list[OffsetSample], sync: TimeSync, problem: TapelineError | None, settings: Settings
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": reference.kind, "offset_ms": float("nan"), "error_ms": float("nan"), "round_trip_ms": float("nan"),
        "samples": len(samples), "state": "silent", "problem": str(problem or ""),
    }  # fmt: skip
    if not samples:
        return row
    found = sync.estimate(reference.name)
    threshold = settings.clock.threshold_seconds * SECOND
    surely = abs(found.offset) - found.error
    state = "off" if surely > threshold else "good" if surely < CLEAR * threshold else "near"
    values = {"offset_ms": found.offset, "error_ms": found.error, "round_trip_ms": found.delay}
    return row | {name: value / MILLISECOND for name, value in values.items()} | {"state": state}


def _tell(report: ClockReport, notifier: Notifier) -> None:
    off = report.table[report.table["state"] == "off"]
    for name, row in report.table.iterrows():
        subject, text = f"clock/{name}", f"{row['offset_ms'] / 1e3:+.3f} s, known to {row['error_ms'] / 1e3:.3f} s"
        if row["state"] == "off":
            incident = notifier.failed(subject, text)
            if incident is not None and incident.failures > 1:
                continue
            report.raised.append(str(name))
            same = off[(off["offset_ms"] > 0) == (row["offset_ms"] > 0)]
            whose = f"{len(same)} of {len(report.table)} references are off to the same side"
            title = f"clock of {name} is {row['offset_ms'] / 1e3:+.1f} s from ours"
            notifier.notify(
                Notification(title, f"{text}\n{whose}", Severity.WARNING, key=f"{subject}/off", error_type="DriftAlert")
            )
        elif row["state"] == "good" and notifier.recovered(subject) is not None:
            report.cleared.append(str(name))
            title = f"clock of {name} is well again"
            notifier.notify(Notification(title, text, Severity.INFO, key=f"{subject}/good", error_type="DriftAlert"))
