"""Any row leads back to the raw row it was made from, its run and its raw file."""

from __future__ import annotations

import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, RAW_BARS, RAW_TICKS, SCORES, features_spec
from tapeline.lake import Lake, Lineage
from tapeline.lake.trace import named_table, trace, trace_lines
from tests.lake.support import D1, EURUSD, H1, SWAP, raw
from tests.lake.ticks import TICK, ticks
from tests.support import make_bars

FILE = "FOREX_EURUSD_1H_ASK.csv, SHA-256 0123456789abcdef"
FEATURES = features_spec("core@0123abcd", ["ret_1"])


def chain(lake: Lake, symbol) -> pd.DataFrame:
    """Raw bars over a year's end, clean bars of them, features of these and of daily bars, as the stages write them."""
    bars = raw(make_bars(800, start="2017-11-20"), source="files:eurusd").assign(ts_origin="provider")
    first = {"lineage": Lineage("run-1", "ingest", (FILE,)), "arrived_at": pd.Timestamp("2018-06-01", tz="UTC")}
    lake.write(RAW_BARS, bars, symbol, H1, **first)
    late = bars.iloc[[50]].assign(close=9.0)
    arrived = pd.Timestamp("2019-05-01", tz="UTC")
    again = Lineage("run-2", "ingest", ("Yahoo Finance chart of EURUSD",))
    lake.write(RAW_BARS, late, symbol, H1, lineage=again, arrived_at=arrived)
    read = f"raw/bars:{symbol}:H1@{lake.version(RAW_BARS, symbol, H1)}"
    clean = lake.read(RAW_BARS, symbol, H1).assign(repaired=False, outlier=False)
    lake.write(CLEAN_BARS, clean, symbol, H1, lineage=Lineage("run-3", "clean", (read,)))
    daily = raw(make_bars(50, start="2017-11-20", timeframe="D1", gaps=False), source="files:daily")
    lake.write(RAW_BARS, daily, symbol, D1, lineage=Lineage("run-0", "ingest", ("daily.csv",)))
    frame = pd.DataFrame({"known_at": bars["close_ts"], "ret_1": 0.5})
    inputs = (
        f"clean/bars:{symbol}:H1@{lake.version(CLEAN_BARS, symbol, H1)}",
        f"raw/bars:{symbol}:D1@{lake.version(RAW_BARS, symbol, D1)}",
        "core@0123abcd",
    )
    lake.write(FEATURES, frame, symbol, H1, lineage=Lineage("run-4", "features", inputs))
    return bars


@pytest.mark.parametrize("symbol", [EURUSD, SWAP])
def test_a_feature_row_leads_to_its_raw_file(tmp_path, symbol):
    lake = Lake(tmp_path)
    bars = chain(lake, symbol)
    ts = bars.index[50]
    steps = {(step.table, step.timeframe): step for step in trace(lake, FEATURES, symbol, H1, ts)}
    assert set(steps) == {(FEATURES.path, H1), ("clean/bars", H1), ("raw/bars", H1), ("raw/bars", D1)}
    assert [change.lineage.run_id for change in steps[FEATURES.path, H1].changes] == ["run-4"]
    assert steps[FEATURES.path, H1].provenance == ("core@0123abcd",)
    clean, first = steps["clean/bars", H1], steps["raw/bars", H1]
    assert clean.read_versions == (lake.version(CLEAN_BARS, symbol, H1),)
    assert first.read_versions == (lake.version(RAW_BARS, symbol, H1),)
    assert (first.period, first.rows) == ("2017", 2)
    assert first.provenance == (FILE, "Yahoo Finance chart of EURUSD")
    assert [change.lineage.run_id for change in first.changes] == ["run-1", "run-2"]
    assert first.data_version == first.changes[-1].content
    old, new = first.origins
    assert (old.source_id, old.instrument, old.ts, old.revision) == ("files:eurusd", str(symbol), ts, 0)
    assert (old.known_at, old.known_at_is_estimate) == (bars["close_ts"].iloc[50], True)
    assert (old.ts_origin, old.ingested_at) == ("provider", pd.Timestamp("2018-06-01", tz="UTC"))
    corrected = pd.Timestamp("2019-05-01", tz="UTC")
    assert (new.known_at, new.known_at_is_estimate, new.ingested_at) == (corrected, False, corrected)
    # Each revision names the very run, and so the very file, that brought it; the clean row was made
    # of the newer one, and carries what that one said.
    assert [lineage.inputs for lineage in old.brought_by + new.brought_by] == [
        (FILE,),
        ("Yahoo Finance chart of EURUSD",),
    ]
    assert old.data_version != new.data_version
    assert [(row.data_version, row.ingested_at) for row in clean.origins] == [(new.data_version, corrected)]
    # The day has no row at this hour: it was read whole.
    assert (steps["raw/bars", D1].rows, steps["raw/bars", D1].provenance) == (0, ("daily.csv",))


def test_a_score_leads_to_its_model_its_features_and_its_raw_file(tmp_path):
    lake = Lake(tmp_path)
    bars = chain(lake, EURUSD)
    frame = pd.DataFrame({"known_at": bars["close_ts"], "probability": 0.6, "side": 1, "confidence": 0.6})
    frame = frame.assign(model="direction", model_version="3", feature_set_version="core@0123abcd")
    frame = frame.assign(label_version="tb@1", data_version="d", scored_at=bars["close_ts"]).iloc[40:60]
    read = f"{FEATURES.path}:{EURUSD}:H1@{lake.version(FEATURES, EURUSD, H1)}"
    lake.write(SCORES, frame, EURUSD, H1, lineage=Lineage("run-5", "score", (read, "direction/3")))
    spec = named_table(lake, EURUSD, H1)
    assert spec.path == SCORES.path, "the last of the chain, where no table is asked for"
    steps = {(step.table, step.timeframe): step for step in trace(lake, spec, EURUSD, H1, bars.index[50])}
    assert set(steps) == {(path, H1) for path in (SCORES.path, FEATURES.path, "clean/bars", "raw/bars")} | {
        ("raw/bars", D1)
    }
    score = steps[SCORES.path, H1]
    assert (score.rows, score.provenance) == (1, ("direction/3",))
    assert [change.lineage.run_id for change in score.changes] == ["run-5"]
    assert steps[FEATURES.path, H1].read_versions == (lake.version(FEATURES, EURUSD, H1),)
    assert steps["raw/bars", H1].provenance[0] == FILE
    lines = "\n".join(trace_lines(list(steps.values())))
    assert "direction/3" in lines
    assert FILE in lines


def test_a_row_of_another_period_leads_to_its_own_runs(tmp_path):
    lake = Lake(tmp_path)
    bars = chain(lake, EURUSD)
    steps = trace(lake, CLEAN_BARS, EURUSD, H1, bars.index[-1])
    assert [(step.table, step.period, step.rows) for step in steps] == [
        ("clean/bars", "2018", 1),
        ("raw/bars", "2018", 1),
    ]
    assert steps[1].provenance == (FILE,), "the correction lies in 2017"


def test_ticks_of_one_instant_each_say_where_they_came_from(tmp_path):
    lake = Lake(tmp_path)
    frame = pd.concat([ticks([1, 1], source="kraken"), ticks([1], source="okx").assign(sequence=2)])
    lake.write(RAW_TICKS, frame, SWAP, TICK, lineage=Lineage("run-9", "stream", ("journal:live",)))
    step = trace(lake, RAW_TICKS, SWAP, TICK, frame["ts"].iloc[0])[0]
    assert [origin.source_id for origin in step.origins] == ["kraken", "kraken", "okx"]
    assert {origin.known_at_is_estimate for origin in step.origins} == {False}
    assert step.provenance == ("journal:live",)


def test_a_row_that_is_not_there_is_said(tmp_path):
    lake = Lake(tmp_path)
    bars = chain(lake, EURUSD)
    for ts in (bars.index[0] + pd.Timedelta("1min"), pd.Timestamp("2030-01-01", tz="UTC")):
        with pytest.raises(DataError, match="holds no row of raw/bars:EURUSD:H1"):
            trace(lake, RAW_BARS, EURUSD, H1, ts)


def test_texts_that_only_look_like_inputs_are_provenance(tmp_path):
    lake = Lake(tmp_path)
    strange = ("nozone/bars:EURUSD:H1@1", "raw/bars:../etc:H1@1", "raw/bars:EURUSD:H7@1", "clean/bars:GBPUSD:H1@1")
    lake.write(RAW_BARS, raw(make_bars(5)), EURUSD, H1, lineage=Lineage("r", "s", strange))
    steps = trace(lake, RAW_BARS, EURUSD, H1, make_bars(5).index[0])
    assert len(steps) == 1
    assert steps[0].provenance == strange[:3]


def test_a_trace_reads_as_text_down_to_the_file_of_each_revision(tmp_path):
    lake = Lake(tmp_path)
    bars = chain(lake, EURUSD)
    spec = named_table(lake, EURUSD, H1)
    assert spec.path == FEATURES.path, "the furthest table where none is named"
    text = trace_lines(trace(lake, spec, EURUSD, H1, bars.index[50]))
    assert text[0].startswith(f"{FEATURES.path} EURUSD H1, period 2017, version ")
    raw_at = next(number for number, line in enumerate(text) if line.startswith("raw/bars EURUSD H1"))
    first, brought, second, again = text[raw_at + 1 : raw_at + 5]
    assert "revision 0 of files:eurusd: time by provider" in first
    assert "stored 2018-06-01T00:00:00+00:00" in first
    assert FILE in brought
    assert "revision 1" in second
    assert again.strip() == "brought by run run-2, ingest, from Yahoo Finance chart of EURUSD"
    with pytest.raises(DataError, match="holds no clean/ticks of EURUSD H1") as told:
        named_table(lake, EURUSD, H1, "clean/ticks")
    assert "clean/bars" in str(told.value.hint)
