"""Label sets: files, versions, and what compute promises."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import labels_spec
from tapeline.core.timeframe import Timeframe
from tapeline.labels.label_set import compute, load_label_set, parse_label_set
from tests.core.samples import eurusd

H1 = Timeframe.parse("H1")


def test_the_default_set_on_real_bars_matches_its_table() -> None:
    bars, chosen = eurusd(), load_label_set()
    labels = compute(chosen, bars, H1)
    assert chosen.version.startswith("direction@")
    assert labels_spec(chosen.version).to_arrow(labels).num_rows == len(labels)
    assert (labels["t_end"] > labels.index + pd.Timedelta(hours=1)).all()
    assert labels["weight"].between(0, 1, inclusive="right").all()
    assert 0.35 < (labels["value"] > 0).mean() < 0.65
    # A win pays about what a loss costs, because the barriers are alike.
    assert labels["outcome"].abs().median() == pytest.approx(labels["outcome"][labels["value"] > 0].median(), rel=0.2)


def test_the_same_bars_give_the_same_labels_and_close_ts_is_derived() -> None:
    bars, chosen = eurusd().head(500), load_label_set()
    first = compute(chosen, bars, H1)
    pd.testing.assert_frame_equal(first, compute(chosen, bars, H1))
    pd.testing.assert_frame_equal(first, compute(chosen, bars.drop(columns="close_ts"), H1))


def test_no_bars_no_labels() -> None:
    assert compute(load_label_set(), eurusd().head(0), H1).empty


def test_the_version_is_the_content() -> None:
    def version(**more) -> str:
        return parse_label_set({"name": "day", "component": "future_return", **more}).version

    assert version() == version(horizon=24) == version(description="words")
    assert len({version(), version(horizon=23), version(kind="log"), version(oldest_weight=0.5)}) == 4


def test_decay_makes_old_labels_lighter() -> None:
    bars = eurusd().head(1000)
    plain = compute(parse_label_set({"name": "a", "component": "future_return"}), bars, H1)
    fading = compute(parse_label_set({"name": "a", "component": "future_return", "oldest_weight": 0.0}), bars, H1)
    share = fading["weight"] / plain["weight"]
    assert share.is_monotonic_increasing
    assert share.iloc[0] < 0.01
    assert share.iloc[-1] == 1.0


def test_a_set_may_say_how_late_its_orders_are() -> None:
    bars = eurusd().head(300)
    plain = parse_label_set({"name": "a", "component": "future_return", "horizon": 5})
    late = parse_label_set({"name": "a", "component": "future_return", "horizon": 5, "delay_bars": 2})
    first, second = compute(plain, bars, H1), compute(late, bars, H1)
    np.testing.assert_array_equal(second["value"], first["value"].iloc[2:])
    assert list(second["t_end"]) == list(first["t_end"].iloc[2:])
    assert list(second.index) == list(first.index[:-2])
    by_clock = parse_label_set({"name": "a", "component": "future_return", "horizon": 5, "delay_minutes": 90})
    third = compute(by_clock, bars, H1)
    assert third["value"].iloc[0] == first["value"].iloc[2]
    assert len({plain.version, late.version, by_clock.version}) == 3
    with pytest.raises(ConfigurationError, match="'delay_bars': Input should be greater than or equal to 0"):
        parse_label_set({"name": "a", "component": "future_return", "delay_bars": -1})


def test_a_label_of_the_users_own(tmp_path) -> None:
    (tmp_path / "own.py").write_text(
        "from tapeline.core.registry import label\nfrom tapeline.labels.future_return import future_return\n"
        "@label(lookback=0, requires=('close_ts',), reference='mine')\n"
        "def sign(bars, horizon: int = 3):\n"
        "    found = future_return(bars, horizon)\n    return found.assign(value=(found['value'] > 0) * 1.0)\n"
    )
    file = tmp_path / "own.toml"
    file.write_text('name = "own"\ncomponent = "own.py:sign"\nhorizon = 7\n')
    labels = compute(load_label_set(file), eurusd().head(100), H1)
    assert set(labels["value"]) == {0.0, 1.0}
    assert len(labels) == 93


def test_what_breaks_the_contract_is_refused(tmp_path) -> None:
    header = "import numpy as np\nfrom tapeline.core.registry import label\n@label(lookback=0, reference='')\n"
    bodies = {
        "return bars[['close']]": r"returned no \['outcome', 't_end', 'value'\]",
        "return bars.assign(value=np.nan, t_end=bars['close_ts'], outcome=0.0)": "missing values",
        "return bars.assign(value=1.0, t_end=bars.index, outcome=0.0)": "before the close of the labelled bar",
    }
    for number, (body, message) in enumerate(bodies.items()):
        (tmp_path / f"wrong{number}.py").write_text(f"{header}def wrong(bars):\n    {body}\n")
        chosen = parse_label_set({"name": "wrong", "component": f"wrong{number}.py:wrong"}, folder=tmp_path)
        with pytest.raises(DataError, match=message):
            compute(chosen, eurusd().head(50), H1)
    with pytest.raises(DataError, match="not sorted"):
        compute(load_label_set(), eurusd().iloc[::-1], H1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "x"}, "'component': Field required"),
        ({"name": "X", "component": "future_return"}, "not a valid name"),
        ({"name": "x", "component": "futur_return"}, "did you mean future_return"),
        ({"name": "x", "component": "future_return", "horizn": 3}, "did you mean 'horizon'"),
        ({"name": "x", "component": "future_return", "horizon": 0}, "horizon = 0 is refused"),
        ({"name": "x", "component": "future_return", "oldest_weight": 2}, "less than or equal to 1"),
        ({"name": "x", "component": "tapeline.features.momentum:rsi"}, "is a feature, not a label"),
    ],
)
def test_what_a_file_may_not_say(content, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_label_set(content)


def test_a_file_that_is_missing_or_broken_is_named(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="packaged ones are direction"):
        load_label_set("nowhere")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        load_label_set(tmp_path / "broken.toml")


def test_values_are_plain_floats() -> None:
    labels = compute(load_label_set(), eurusd().head(300), H1)
    assert labels["value"].dtype == labels["outcome"].dtype == labels["weight"].dtype == np.float64
    assert str(labels["t_end"].dtype) == "datetime64[ns, UTC]"
