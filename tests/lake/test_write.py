from __future__ import annotations

import dataclasses
import multiprocessing

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, SchemaError, TemporaryError
from tapeline.core.schemas import EVENTS, QUARANTINE, RAW_BARS, TableSpec, features_spec, labels_spec
from tapeline.core.symbol import Symbol
from tapeline.lake import Lake, Lineage
from tapeline.lake.partition import Place
from tapeline.lake.writer import locked
from tests.lake.support import (
    D1,
    EURUSD,
    H1,
    LINEAGE,
    M1,
    READINGS,
    S1,
    all_hashes,
    data_hashes,
    notes,
    raw,
    readings,
)
from tests.support import make_bars

STEP = pd.Timedelta("100D")
ORIGIN = pd.Timestamp("2017-01-02", tz="UTC")
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def write(lake, spec, frame, symbol=EURUSD, timeframe=D1, lineage=LINEAGE):
    return lake.write(spec, frame, symbol, timeframe, lineage=lineage)


def at(slot: int) -> pd.Timestamp:
    return ORIGIN + slot * STEP


# --- properties -----------------------------------------------------------------------------------------------------

VALUES = st.sampled_from([0.0, 1.0, 2.0, float("nan")])
READING_BATCHES = st.lists(
    st.dictionaries(st.integers(0, 7), st.tuples(VALUES, st.integers(0, 5)), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


def same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


def model_of(batches, estimate: bool) -> dict[int, list[tuple[float, int]]]:
    held: dict[int, list[tuple[float, int]]] = {}
    for batch in batches:
        for slot, (value, delay) in batch.items():
            known = held.setdefault(slot, [])
            is_same = known and same(known[-1][0], value)
            is_replay = not estimate and any(same(v, value) and d == delay for v, d in known)
            if not (is_same or is_replay):
                known.append((value, delay))
    return held


def frame_of(batch, estimate: bool) -> pd.DataFrame:
    rows = [(at(slot), value, at(slot) + delay * pd.Timedelta("1D")) for slot, (value, delay) in batch.items()]
    return readings(rows, estimate=estimate)


@QUICK
@given(READING_BATCHES, st.booleans(), st.integers(0, 800))
def test_any_sequence_of_batches_leaves_what_a_dictionary_would_hold(tmp_path_factory, batches, estimate, day):
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for batch in batches:
        receipt = write(lake, READINGS, frame_of(batch, estimate))
        assert receipt.rows_given == receipt.rows_added + receipt.rows_revised + receipt.rows_unchanged
        before = all_hashes(lake.root)
        assert write(lake, READINGS, frame_of(batch, estimate)).partitions == ()
        assert all_hashes(lake.root) == before
    model = model_of(batches, estimate)
    held = lake.read(READINGS, EURUSD, D1)
    assert held.index.tolist() == [at(slot) for slot in sorted(model)]
    assert all(same(a, model[s][-1][0]) for a, s in zip(held["value"], sorted(model), strict=True))
    assert held["revision"].tolist() == [len(model[slot]) - 1 for slot in sorted(model)]

    instant = ORIGIN + day * pd.Timedelta("1D")
    known = lake.read(READINGS, EURUSD, D1, as_of=instant, columns=["value"])["value"]
    expected = {}
    for slot, versions in model.items():
        seen = [value for value, delay in versions if at(slot) + delay * pd.Timedelta("1D") <= instant]
        if seen:
            expected[at(slot)] = seen[-1]
    assert known.index.tolist() == sorted(expected)
    assert all(same(value, expected[ts]) for ts, value in known.items())


@QUICK
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.sampled_from([None, "x", "y"])), max_size=6),
        max_size=4,
    ),
    st.sampled_from(["first", "last"]),
)
def test_tables_without_revisions_keep_the_first_or_the_last(tmp_path_factory, batches, keep):
    lake, spec, model = Lake(tmp_path_factory.mktemp("lake")), notes(keep), {}
    for batch in batches:
        frame = pd.DataFrame(batch, columns=["ts", "author", "text"])
        frame["ts"] = pd.to_datetime([at(slot) for slot in frame["ts"]], utc=True).as_unit("ns")
        write(lake, spec, frame)
        for slot, author, text in batch:
            if keep == "last" or (slot, author) not in model:
                model[slot, author] = text
    rows = lake.read_arrow(spec, EURUSD, D1).to_pylist()
    assert [(r["ts"], r["author"], r["text"]) for r in rows] == [(at(s), a, model[s, a]) for s, a in sorted(model)]


@QUICK
@given(st.permutations(range(5)))
def test_the_order_of_batches_does_not_change_a_byte(tmp_path_factory, order):
    bars = raw(make_bars(1200, timeframe="H1", start="2017-11-20")).assign(source=["a", "b", "c"] * 400)
    bars = bars.assign(data_version="one answer")  # else each batch is a version of its own
    straight, shuffled = (Lake(tmp_path_factory.mktemp("lake")) for _ in range(2))
    write(straight, RAW_BARS, bars, timeframe=H1)
    for number in order:  # overlapping by a hundred rows, and each batch itself unsorted
        write(shuffled, RAW_BARS, bars.iloc[max(0, number * 240 - 100) : (number + 1) * 240].iloc[::-1], timeframe=H1)
    assert data_hashes(shuffled.root) == data_hashes(straight.root)
    assert shuffled.version(RAW_BARS, EURUSD, H1) == straight.version(RAW_BARS, EURUSD, H1)


# --- single cases ---------------------------------------------------------------------------------------------------


def test_nothing_is_created_before_the_first_write(tmp_path):
    lake = Lake(tmp_path / "deep" / "lake")
    assert lake.read(RAW_BARS, EURUSD, H1).empty
    assert lake.last(RAW_BARS, EURUSD, H1) is None
    assert lake.series() == []
    assert lake.recover() == []
    write(lake, RAW_BARS, raw(make_bars(10)).iloc[:0], timeframe=H1)
    assert not (tmp_path / "deep").exists()


def test_a_frame_read_back_and_written_again_changes_nothing(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(500))
    bars["tick_count"] = [None, 7] * 250
    write(lake, RAW_BARS, bars, timeframe=H1)
    before = all_hashes(tmp_path)
    held = lake.read(RAW_BARS, EURUSD, H1)
    pd.testing.assert_frame_equal(held[list(make_bars(1))], make_bars(500), check_freq=False)
    receipt = write(lake, RAW_BARS, held, timeframe=H1)
    assert (receipt.rows_unchanged, receipt.partitions) == (500, ())
    assert all_hashes(tmp_path) == before


def test_arrow_and_pandas_write_the_same_bytes(tmp_path):
    bars = raw(make_bars(100))
    write(Lake(tmp_path / "a"), RAW_BARS, bars, timeframe=H1)
    write(Lake(tmp_path / "b"), RAW_BARS, RAW_BARS.to_arrow(bars).select(RAW_BARS.schema.names[::-1]), timeframe=H1)
    assert all_hashes(tmp_path / "a") == all_hashes(tmp_path / "b")


def test_a_correction_becomes_the_next_revision_with_its_own_arrival(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(50))
    write(lake, RAW_BARS, bars, timeframe=H1)
    later = bars.iloc[10:20].assign(close=9.0, known_at=pd.Timestamp("2018-01-01", tz="UTC"), source="late")
    receipt = write(lake, RAW_BARS, later, timeframe=H1)
    assert (receipt.rows_added, receipt.rows_revised, receipt.rows_unchanged) == (0, 10, 0)
    now = lake.read(RAW_BARS, EURUSD, H1)
    then = lake.read(RAW_BARS, EURUSD, H1, as_of="2017-12-31")
    assert (now["close"].iloc[10:20] == 9.0).all()
    assert now["revision"].tolist() == [0] * 10 + [1] * 10 + [0] * 30
    np.testing.assert_array_equal(then["close"], bars["close"])
    assert lake.status()["revisions"].tolist() == [10]
    assert lake.status()["rows"].tolist() == [50]


def test_a_correction_is_known_from_its_arrival_whatever_it_says(tmp_path):
    lake, bars = Lake(tmp_path), raw(make_bars(50))
    arrival = pd.Timestamp("2018-06-01", tz="UTC")
    write(lake, RAW_BARS, bars, timeframe=H1)
    corrected = pd.concat([bars.iloc[40:].assign(close=9.0), raw(make_bars(60)).iloc[50:]])
    lake.write(RAW_BARS, corrected, EURUSD, H1, lineage=LINEAGE, arrived_at=arrival)
    held = lake.read(RAW_BARS, EURUSD, H1)
    assert (held["known_at"].iloc[40:50] == arrival).all()
    assert not held["known_at_is_estimate"].iloc[40:50].any()
    assert (held["known_at"].iloc[50:] == held["close_ts"].iloc[50:]).all()  # new rows keep what they say
    np.testing.assert_array_equal(lake.read(RAW_BARS, EURUSD, H1, as_of="2018-05-31")["close"].iloc[:50], bars["close"])
    for spec, instant in ((RAW_BARS, arrival.tz_localize(None)), (notes("last"), arrival)):
        with pytest.raises(ConfigurationError, match="arrived_at"):
            lake.write(spec, bars, EURUSD, H1, lineage=LINEAGE, arrived_at=instant)


@pytest.mark.parametrize("estimate", [False, True])
def test_a_replayed_observation_changes_nothing_but_a_change_back_does(tmp_path, estimate):
    lake = Lake(tmp_path)
    first = readings([(at(0), 1.0, at(1)), (at(2), 5.0, at(3))], estimate=estimate)
    for batch in (first, readings([(at(0), 2.0, at(4))]), readings([(at(0), 3.0, at(5))])):
        write(lake, READINGS, batch)
    before = all_hashes(tmp_path)
    receipt = write(lake, READINGS, first)
    if estimate:  # the old value, with no proof that it is the old observation: it counts as the newest
        assert (receipt.rows_revised, receipt.rows_unchanged) == (1, 1)
        assert lake.read(READINGS, EURUSD, D1)["revision"].tolist() == [3, 0]
    else:
        assert (receipt.rows_revised, receipt.rows_unchanged) == (0, 2)
        assert all_hashes(tmp_path) == before
        back = readings([(at(0), 1.0, at(6))])
        assert write(lake, READINGS, back).rows_revised == 1
        assert lake.read(READINGS, EURUSD, D1)["value"].tolist() == [1.0, 5.0]


@pytest.mark.parametrize(("timeframe", "expected"), [(D1, "2017"), (M1, "2017-01"), (S1, "2017-01-02")])
def test_the_period_fits_the_timeframe(tmp_path, timeframe, expected):
    receipt = write(Lake(tmp_path), RAW_BARS, raw(make_bars(20, timeframe=timeframe.name)), timeframe=timeframe)
    assert receipt.partitions == (expected,)
    assert (receipt.path / f"period={expected}" / "data.parquet").is_file()


def test_events_and_lists_are_updated_in_place(tmp_path):
    lake, start = Lake(tmp_path), pd.DatetimeIndex([ORIGIN, ORIGIN + STEP]).as_unit("ns")
    frame = pd.DataFrame(
        {
            "id": ["b", "a"],
            "kind": "swing",
            "direction": np.int8(1),
            "start": start,
            "end": start,
            "confirmed_at": start,
            "points": [[{"ts": ORIGIN, "price": 1.0}], None],
        }
    )
    write(lake, EVENTS, frame)
    ended = frame.assign(invalidated_at=pd.DatetimeIndex([at(3), None]).tz_convert("UTC").as_unit("ns"))
    receipt = write(lake, EVENTS, ended)
    assert (receipt.rows_revised, receipt.rows_unchanged) == (1, 1)
    assert lake.read(EVENTS, EURUSD, D1)["invalidated_at"].tolist() == [at(3), pd.NaT]
    assert lake.read(EVENTS, EURUSD, D1, as_of=at(2))["invalidated_at"].isna().all()
    assert lake.read(EVENTS, EURUSD, D1, as_of=at(0))["id"].tolist() == ["b"]
    other_points = ended.assign(points=[[{"ts": ORIGIN, "price": 2.0}], None])
    assert write(lake, EVENTS, other_points).rows_revised == 1


@pytest.mark.parametrize("slots", [1, 4], ids=["same period", "another period"])
def test_a_finding_that_comes_back_at_another_time_is_refused(tmp_path, slots):
    lake = Lake(tmp_path)
    one = pd.DatetimeIndex([ORIGIN]).as_unit("ns")
    frame = pd.DataFrame(
        {"id": "a", "kind": "k", "direction": np.int8(1), "start": one, "end": one, "confirmed_at": one}
    )
    write(lake, EVENTS, frame)
    before = all_hashes(tmp_path)
    with pytest.raises(DataError, match="another 'confirmed_at'"):
        write(lake, EVENTS, frame.assign(confirmed_at=one + slots * STEP))
    assert all_hashes(tmp_path) == before
    refused = pd.DataFrame({"id": ["q"], "ts": one, "stage": "s", "source": "f", "row_number": 1})
    refused = refused.assign(reasons=[["bad"]], record="{}")
    write(lake, QUARANTINE, refused)
    assert write(lake, QUARANTINE, refused.assign(ts=one + slots * STEP)).rows_unchanged == 1  # the first stands
    assert lake.read(QUARANTINE, EURUSD, D1).index.tolist() == [ORIGIN]


BAD = {
    "a required column is missing": lambda f: f.drop(columns="close"),
    "an unknown column": lambda f: f.assign(extra=1.0),
    "a text for a number": lambda f: f.assign(close="high"),
    "times without a zone": lambda f: f.tz_localize(None),
    "a null in a required column": lambda f: f.assign(source=[None, *["x"] * 99]),
    "a key twice": lambda f: pd.concat([f, f.iloc[:1]]),
    "a column twice": lambda f: pd.concat([f, f[["close"]]], axis=1),
    "a time that is absent": lambda f: f.set_axis(f.index[1:].append(pd.DatetimeIndex([pd.NaT], tz="UTC"))).rename_axis(
        "ts"
    ),
    "an Arrow table with an unknown column": lambda f: RAW_BARS.to_arrow(f).append_column("x", pa.nulls(100)),
    "an Arrow table with a missing column": lambda f: RAW_BARS.to_arrow(f).drop_columns(["close"]),
    "an Arrow table without zones": lambda f: RAW_BARS.to_arrow(f).set_column(
        0, "ts", RAW_BARS.to_arrow(f).column("ts").cast(pa.timestamp("ns"))
    ),
    "an Arrow table with a lossy cast": lambda f: RAW_BARS.to_arrow(f).set_column(
        12, "revision", pa.array([0.5] * 100)
    ),
    "an Arrow table with a null": lambda f: RAW_BARS.to_arrow(f).set_column(
        1, "open", pa.array([None] * 100, pa.float64())
    ),
}


@pytest.mark.parametrize("break_it", BAD.values(), ids=BAD)
def test_a_batch_that_does_not_match_is_refused_whole(tmp_path, break_it):
    lake, bars = Lake(tmp_path / "lake"), raw(make_bars(100))
    with pytest.raises(SchemaError):
        write(lake, RAW_BARS, break_it(bars), timeframe=H1)
    assert not (tmp_path / "lake").exists()


def test_wrong_types_are_refused(tmp_path):
    lake, bars = Lake(tmp_path / "lake"), raw(make_bars(5))
    calls = {
        "expected a pandas DataFrame": lambda: write(lake, RAW_BARS, bars.to_dict("list"), timeframe=H1),
        "expected a TableSpec": lambda: write(lake, "raw/bars", bars, timeframe=H1),
        "not a Timeframe": lambda: write(lake, RAW_BARS, bars, timeframe="H1"),
        "is not a valid instrument": lambda: write(lake, RAW_BARS, bars, symbol="../../etc", timeframe=H1),
        "must be a text": lambda: write(lake, RAW_BARS, bars, symbol=7203, timeframe=H1),
        "expected a Lineage": lambda: write(lake, RAW_BARS, bars, timeframe=H1, lineage="run-1"),
        "zone 'secret' is unknown": lambda: write(
            lake, TableSpec("secret", "bars", RAW_BARS.schema, key=("ts",)), bars, timeframe=H1
        ),
        "is not a time": lambda: write(
            lake, TableSpec("raw", "x", RAW_BARS.schema, key=("ts",), order="open"), bars, timeframe=H1
        ),
        "is bitemporal": lambda: write(
            lake, TableSpec("raw", "x", READINGS.schema, key=("value",), bitemporal=True), bars, timeframe=H1
        ),
        "a lineage takes": lambda: Lineage("run", "stage", ["not a tuple"]),
    }
    for message, call in calls.items():
        with pytest.raises(ConfigurationError, match=message):
            call()
    assert not (tmp_path / "lake").exists()


def test_a_file_of_another_schema_is_not_overwritten(tmp_path):
    lake = Lake(tmp_path)
    ts = pd.date_range("2017-01-02", periods=3, tz="UTC", name="ts", unit="ns")
    known = ts + D1.duration
    write(lake, features_spec("core@1", ["a"]), pd.DataFrame({"known_at": known, "a": 1.0}, index=ts))
    before = all_hashes(tmp_path)
    other = features_spec("core@1", ["a", "b"])
    with pytest.raises(SchemaError, match=r"lacks \['b'\]"):
        write(lake, other, pd.DataFrame({"known_at": known, "a": 1.0, "b": 1.0}, index=ts))
    with pytest.raises(SchemaError, match=r"data\.parquet"):
        lake.read(other, EURUSD, D1)
    assert all_hashes(tmp_path) == before


def test_a_file_from_before_a_nullable_column_was_added_reads_and_merges(tmp_path):
    """A table grows; the archive that was written before must stay readable, to the reader, the writer and SQL."""
    lake = Lake(tmp_path)
    ts = pd.date_range("2017-01-02", periods=3, tz="UTC", name="ts", unit="ns")
    new = labels_spec("up@1")
    old = dataclasses.replace(new, schema=new.schema.remove(new.schema.get_field_index("outcome")))
    rows = pd.DataFrame({"value": 1.0, "t_end": ts + D1.duration, "weight": 1.0}, index=ts)
    write(lake, old, rows.iloc[:2])
    assert lake.read(new, EURUSD, D1)["outcome"].isna().all()
    assert lake.read(new, EURUSD, D1, columns=["outcome", "value"]).columns.tolist() == ["outcome", "value"]
    receipt = write(lake, new, rows.assign(outcome=[np.nan, np.nan, 0.5]))
    assert (receipt.rows_added, receipt.rows_unchanged) == (1, 2)
    assert lake.read(new, EURUSD, D1)["outcome"].tolist()[2] == 0.5


def test_a_link_in_the_lake_is_not_followed(tmp_path):
    lake, outside = Lake(tmp_path / "lake"), tmp_path / "outside"
    outside.mkdir()
    receipt = write(lake, RAW_BARS, raw(make_bars(10)), timeframe=H1)
    target = receipt.path / "period=2017"
    target.rename(outside / "period=2017")
    target.symlink_to(outside / "period=2017")
    before = all_hashes(outside)
    with pytest.raises(DataError, match="symbolic link"):
        write(lake, RAW_BARS, raw(make_bars(20)), timeframe=H1)
    with pytest.raises(DataError, match="symbolic link"):
        lake.read(RAW_BARS, EURUSD, H1)
    target.unlink()
    target.mkdir()
    (target / "data.parquet").symlink_to(outside / "period=2017" / "data.parquet")
    with pytest.raises(DataError, match="symbolic link"):
        write(lake, RAW_BARS, raw(make_bars(20)), timeframe=H1)
    assert all_hashes(outside) == before


def test_a_root_that_is_a_link_is_fine(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    write(Lake(tmp_path / "data"), RAW_BARS, raw(make_bars(10)), timeframe=H1)
    assert len(data_hashes(tmp_path / "disk")) == 1


def test_a_failure_in_one_partition_leaves_all_of_them(tmp_path):
    lake = Lake(tmp_path)
    bars = raw(make_bars(800, start="2017-11-20"))
    receipt = write(lake, RAW_BARS, bars, timeframe=H1)
    assert receipt.partitions == ("2017", "2018")
    (receipt.path / "period=2018" / "data.parquet").write_bytes(b"PAR1 no")
    before = data_hashes(tmp_path)
    with pytest.raises(DataError, match="period=2018"):
        write(lake, RAW_BARS, bars.assign(close=5.0), timeframe=H1)
    assert data_hashes(tmp_path) == before
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_held_lock_is_a_temporary_error(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    monkeypatch.setattr("tapeline.lake.writer.locked", lambda root, place: locked(root, place, seconds=0.05))
    with locked(tmp_path, Place.of(RAW_BARS, EURUSD, H1)):
        with pytest.raises(TemporaryError, match="raw/bars:EURUSD:H1"):
            write(lake, RAW_BARS, raw(make_bars(5)), timeframe=H1)
        write(lake, RAW_BARS, raw(make_bars(5)), symbol=Symbol.parse("GBPUSD"), timeframe=H1)  # another series is free


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="cannot write"):
        write(Lake(tmp_path / "file"), RAW_BARS, raw(make_bars(5)), timeframe=H1)


def write_slice(root, start, stop):
    write(Lake(root), RAW_BARS, raw(make_bars(600)).iloc[start:stop], timeframe=H1)


def test_writers_of_one_series_wait_for_each_other(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.lake.test_write"])
    workers = [context.Process(target=write_slice, args=(tmp_path, n * 100, n * 100 + 150)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert len(Lake(tmp_path).read(RAW_BARS, EURUSD, H1)) == 600
