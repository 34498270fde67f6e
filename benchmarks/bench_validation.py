"""Validation of a million bars: the row check against pandas masks and Great Expectations, and what the gate costs.

Run alone: ``python -m benchmarks.bench_validation``. Every side sees the same rows with the same planted faults, and
the run stops if they do not find the same ones.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, report
from tapeline.cleaning.sanitizer import sanitize
from tapeline.quality.checks import check_bars, split
from tapeline.quality.gate_process import GateProcess, GateRequest
from tapeline.quality.quarantine import quarantine

ROWS = 1_000_000
EXPECTATIONS = Path(__file__).parents[1] / "expectations"


def made_bars() -> pd.DataFrame:
    """A million sound minute bars from a random walk."""
    generator = np.random.default_rng(5)
    ts = pd.date_range("2020-01-01", periods=ROWS, freq="1min", tz="UTC", name="ts", unit="ns")
    close = 1.1 * np.exp(np.cumsum(generator.normal(0, 1e-5, ROWS)))
    opened = np.r_[1.1, close[:-1]]
    wick = np.abs(generator.normal(0, 2e-5, (2, ROWS)))
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * (1 + wick[0]),
            "low": np.minimum(opened, close) * (1 - wick[1]),
            "close": close,
            "volume": generator.integers(1, 1000, ROWS).astype(float),
        },
        index=ts,
    )


def planted_bars() -> pd.DataFrame:
    """The same, shuffled, with 3,000 faults of six kinds and 1,000 repeated rows."""
    generator = np.random.default_rng(6)
    bars = made_bars()
    rows = generator.choice(ROWS, 3_000, replace=False).reshape(6, 500)
    faults: list[tuple[str, Any]] = [
        ("open", np.nan),
        ("high", np.inf),
        ("low", -1.0),
        ("high", 0.5),
        ("close", 9.0),
        ("volume", -1.0),
    ]
    for at, (name, value) in zip(rows, faults, strict=True):
        bars.iloc[at, bars.columns.get_loc(name)] = value
    sound = np.setdiff1d(np.arange(ROWS), rows.ravel())
    batch = pd.concat([bars, bars.iloc[generator.choice(sound, 1_000, replace=False)]])
    return batch.iloc[generator.permutation(len(batch))]


def pandas_masks(bars: pd.DataFrame) -> np.ndarray:
    """The same questions as plain pandas expressions, one after the other."""
    prices = bars[["open", "high", "low", "close"]]
    bad = ~np.isfinite(prices).all(axis=1) | np.isinf(bars["volume"])
    bad |= (prices <= 0).any(axis=1)
    bad |= (bars["high"] < bars["low"]) | (bars["open"] > bars["high"]) | (bars["open"] < bars["low"])
    bad |= (bars["close"] > bars["high"]) | (bars["close"] < bars["low"])
    bad |= bars["volume"] < 0
    bad |= bars.index.duplicated() | (bars.index.floor("1min") != bars.index) | bars.index.isna()
    return np.asarray(bad)


class GreatExpectations:
    """The same questions as expectations, with the offending rows named, on a batch in memory."""

    def __init__(self, bars: pd.DataFrame) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as gx
        import great_expectations.expectations as gxe

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
        prices = ("open", "high", "low", "close")
        pairs = (("high", "low"), ("high", "open"), ("high", "close"), ("open", "low"), ("close", "low"))
        self._suite = gx.ExpectationSuite(
            name="peer",
            expectations=[
                gxe.ExpectColumnValuesToNotBeNull(column="ts"),
                gxe.ExpectColumnValuesToBeUnique(column="ts"),
                *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in prices),
                *(
                    gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=1e300, strict_min=True)
                    for name in prices
                ),
                *(gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A=a, column_B=b, or_equal=True) for a, b in pairs),
                gxe.ExpectColumnValuesToBeBetween(column="volume", min_value=0, max_value=1e300),
            ],
        )
        source = context.data_sources.add_pandas("memory").add_dataframe_asset("bars")
        self._definition = source.add_batch_definition_whole_dataframe("whole")
        self._frame = bars.reset_index()

    def __call__(self) -> np.ndarray:
        """True for each row that breaks an expectation."""
        batch = self._definition.get_batch(batch_parameters={"dataframe": self._frame})
        form = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
        bad = np.zeros(len(self._frame), dtype=bool)
        for result in batch.validate(self._suite, result_format=form).results:
            bad[result.result.get("unexpected_index_list") or []] = True
        return bad


def gate_in_worker(paths: list[Path]) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of one worker that judges these files; the suite must pass them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with GateProcess(EXPECTATIONS) as gate:
        verdicts = gate.judge(GateRequest((path,), "clean_bars", path.name) for path in paths)
    assert all(verdict.passed for verdict in verdicts), verdicts[0].failures
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024


def main() -> int:
    """Measure, compare, print; 1 where a target is missed."""
    now = pd.Timestamp("2030-01-01", tz="UTC")
    sound, planted = made_bars(), planted_bars()
    checked = check_bars(planted, "M1", now=now)
    ours = ~checked.passed
    figures = []

    def check_sorted() -> None:
        check_bars(sound, "M1", now=now)

    def check_planted() -> None:
        check_bars(planted, "M1", now=now)

    def whole_stage() -> None:
        verdict = check_bars(planted, "M1", now=now)
        split(planted, verdict)
        quarantine(planted, verdict, stage="values", source="benchmark")

    seconds = cpu_seconds(check_sorted)
    figures.append(report("validation.check.sorted", seconds, "cpu s", target="< 0.25", holds=seconds < 0.25))

    naive = pandas_masks(planted)
    assert np.array_equal(ours, naive), "pandas masks and the row check disagree"
    seconds = cpu_seconds(check_planted)
    peer = cpu_seconds(lambda: pandas_masks(planted))
    figures.append(
        report(
            "validation.check.unsorted_with_duplicates",
            seconds,
            "cpu s",
            target="< 0.25 and below the peer",
            holds=seconds < min(0.25, peer),
            peer="pandas masks, same rows found",
            peer_value=peer,
        )
    )

    expectations = GreatExpectations(planted)
    found = expectations()
    # Great Expectations refuses every row of a repeated time, the row check all but one: that one is allowed for.
    times = planted.index
    kept = times.duplicated(keep=False) & ~times.duplicated(keep="first")
    assert np.array_equal(ours | kept, found), "Great Expectations and the row check disagree"
    peer = cpu_seconds(expectations, repeats=1, warm=False)
    figures.append(
        report(
            "validation.check.against_great_expectations",
            seconds,
            "cpu s",
            target="< 0.2 of the peer",
            holds=seconds < 0.2 * peer,
            peer="Great Expectations in memory, import not counted, same rows found",
            peer_value=peer,
        )
    )

    seconds = cpu_seconds(whole_stage)
    figures.append(
        report(
            "validation.check_split_quarantine", seconds, "cpu s", target="< 1 with 4,000 refused", holds=seconds < 1.0
        )
    )
    seconds = cpu_seconds(lambda: sanitize(sound, "M1"))
    figures.append(report("cleaning.sanitize", seconds, "cpu s", target="< 2", holds=seconds < 2.0))

    clean = sanitize(sound, "M1").bars.reset_index()
    with tempfile.TemporaryDirectory() as folder:
        small, parquet, arrow = (Path(folder, name) for name in ("small.parquet", "bars.parquet", "bars.arrow"))
        clean.iloc[:1000].to_parquet(small)
        clean.to_parquet(parquet)
        clean.to_feather(arrow)
        start, _ = gate_in_worker([small])
        by_parquet, memory = gate_in_worker([parquet])
        by_arrow, _ = gate_in_worker([arrow])
    figures.append(report("validation.gate.worker_start", start, "cpu s", target="< 8", holds=start < 8))
    figures.append(
        report(
            "validation.gate.parquet_of_1M",
            by_parquet - start,
            "cpu s beyond the start",
            target="< 8",
            holds=by_parquet - start < 8,
            peer="the same batch as an Arrow file",
            peer_value=by_arrow - start,
        )
    )
    figures.append(report("validation.gate.worker_memory", memory, "MB", target="< 1500", holds=memory < 1500))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
