"""The one schema of each table: what casts, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.schemas import (
    CLEAN_BARS,
    FIXED_TABLES,
    RAW_BARS,
    ZONES,
    TableSpec,
    empty,
    features_spec,
    labels_spec,
)
from tests.support import make_bars


def raw() -> pd.DataFrame:
    bars = make_bars(10)
    return bars.assign(known_at=bars["close_ts"], known_at_is_estimate=True, source="test", revision=0)


def test_every_fixed_table_lies_in_a_zone_under_its_own_path() -> None:
    assert {spec.zone for spec in FIXED_TABLES.values()} <= set(ZONES)
    for path, spec in FIXED_TABLES.items():
        assert path == spec.path == f"{spec.zone}/{spec.name}"
        frame = empty(spec)
        assert len(frame) == 0
        assert spec.to_arrow(frame).schema.equals(spec.schema)


def test_bars_cast_with_the_time_as_index_or_as_column() -> None:
    table = RAW_BARS.to_arrow(raw())
    assert table.schema.equals(RAW_BARS.schema)
    assert RAW_BARS.to_arrow(raw().reset_index()).equals(table)
    assert table.column("spread").null_count == 10
    back = table.to_pandas().set_index("ts")
    np.testing.assert_array_equal(back["close"], raw()["close"])


def test_a_missing_measurement_is_nan_and_an_absent_cell_is_null() -> None:
    frame = raw().assign(open=np.nan, spread=[np.nan, *[1.0] * 9])
    table = RAW_BARS.to_arrow(frame)
    assert table.column("open").null_count == 0
    assert np.isnan(table.column("open").to_numpy()).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.assign(extra=1), r"columns \['extra'\] are not in its schema"),
        (lambda f: f.drop(columns="close"), "required column 'close' is missing"),
        (lambda f: f.assign(close="many"), "column 'close'"),
        (lambda f: f.assign(source=None), "required column 'source' has 10 nulls"),
        (lambda f: f.assign(known_at=f["known_at"].dt.tz_localize(None)), "expected UTC instants"),
        (lambda f: f.assign(known_at=5), "'known_at' holds int64"),
        (lambda f: f.assign(revision=2**40), "column 'revision'"),
        (lambda f: f.assign(tick_count=1.5), "column 'tick_count'"),
    ],
)
def test_what_does_not_match_is_refused(spoil, message) -> None:
    with pytest.raises(SchemaError, match=message):
        RAW_BARS.to_arrow(spoil(raw()))


def test_clean_bars_say_what_cleaning_saw() -> None:
    with pytest.raises(SchemaError, match="required column 'repaired' is missing"):
        CLEAN_BARS.to_arrow(raw())
    assert CLEAN_BARS.to_arrow(raw().assign(repaired=False, outlier=False)).num_rows == 10


def test_features_and_labels_take_their_version_as_name() -> None:
    spec = features_spec("core@0123456789abcdef", ["rsi_14", "body"])
    assert spec.path == "features/core@0123456789abcdef"
    assert spec.schema.field("rsi_14").type == pa.float32()
    assert labels_spec("direction@ab").schema.names == ["ts", "value", "t_end", "outcome", "weight"]
    with pytest.raises(ConfigurationError, match="not a valid name"):
        features_spec("../core", ["a"])


def test_a_key_must_be_in_the_schema() -> None:
    with pytest.raises(ConfigurationError, match=r"key columns \['id'\]"):
        TableSpec("events", "x", pa.schema([("ts", pa.timestamp("ns", tz="UTC"))]), key=("id",))
