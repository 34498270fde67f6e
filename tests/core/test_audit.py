"""The audit catches what cheats and lets pass what does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core import audit as module
from tapeline.core.audit import Finding, audit, load_user_component
from tapeline.core.comparison import results_of
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.perturbation import FUTURES
from tapeline.core.registry import component_of, feature
from tapeline.core.timeframe import Timeframe
from tests.core.leaks import HONEST, LEAKS, POWERLESS, engulfing, next_bar_if_engulfing, next_close, short_lookback
from tests.support import make_bars

H1 = Timeframe.parse("H1")


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    return make_bars(640, seed=3)


def failures(findings: list[Finding]) -> set[str]:
    return {finding.check for finding in findings if not finding.passed and finding.conclusive}


@pytest.mark.parametrize("cheat", LEAKS, ids=lambda function: function.__name__)
def test_every_cheat_is_caught_by_the_check_meant_for_it(cheat, history) -> None:
    # Fewer than the registry's own test makes on its two series together.
    found = failures(audit(component_of(cheat), history, H1, cuts=32))
    assert LEAKS[cheat] <= found, found


@pytest.mark.parametrize("honest", HONEST, ids=lambda function: function.__name__)
def test_honest_twins_pass_every_check(honest, history) -> None:
    findings = audit(component_of(honest), history, H1, cuts=48)
    assert [finding.check for finding in findings] == ["shape", "input", "repeat", "truncate", "perturb", "tail"]
    assert all(finding.passed for finding in findings), [str(f) for f in findings]


@pytest.mark.parametrize("dull", POWERLESS, ids=lambda function: function.__name__)
def test_a_check_that_can_show_nothing_does_not_pass(dull, history) -> None:
    findings = {f.check: f for f in audit(component_of(dull), history, H1, cuts=40)}
    for check in ("truncate", "perturb", "tail"):
        assert not findings[check].passed
        assert not findings[check].conclusive
        assert POWERLESS[dull] in findings[check].detail


def test_a_leak_at_one_bar_in_a_hundred_is_caught_by_cuts_beside_what_is_rare(history) -> None:
    leaking = (next_bar_if_engulfing(history) == 1.5).mean()
    assert 0.003 < leaking < 0.015
    assert {"truncate", "perturb"} <= failures(audit(component_of(next_bar_if_engulfing), history, H1, cuts=20))


@pytest.mark.parametrize("betrayed", [True, False])
def test_a_leak_at_a_few_bars_is_caught_by_few_cuts_where_it_shows_and_by_the_default_where_not(
    betrayed, history
) -> None:
    close = history["close"]
    drawn = np.abs(np.sin(close * 1e8)) < 0.04
    assert 0.01 < drawn.mean() < 0.05

    @feature(lookback=2, outputs="value", reference="leak: the next close, at a few bars")
    def few(bars: pd.DataFrame) -> pd.Series:
        move, up = bars["close"].pct_change(), bars["close"].shift(-1) > bars["close"]
        at = (np.abs(np.sin(bars["close"] * 1e8)) < 0.04) & up
        return at.astype(float) if betrayed else move.where(~at, move * 1.01)

    wanted = {"truncate"} if betrayed else {"truncate", "perturb"}
    assert wanted <= failures(audit(component_of(few), history, H1, cuts=20 if betrayed else None))


def test_a_finding_names_column_bar_values_and_cut(history) -> None:
    finding = next(f for f in audit(component_of(next_close), history, H1, cuts=20) if f.check == "truncate")
    assert finding.component == "next_close"
    assert "value at 2017-01-02 00:00:00+00:00" in finding.detail
    assert "became nan" in finding.detail
    assert "history ends before 2017-01-02 01:00:00+00:00 (row 1)" in finding.detail
    assert "FAILED" in str(finding)


def test_tail_says_when_the_bars_are_too_few() -> None:
    findings = audit(component_of(short_lookback), make_bars(50), H1)
    tail = next(f for f in findings if f.check == "tail")
    assert not tail.passed
    assert not tail.conclusive
    assert "more than 50 bars" in tail.detail


@pytest.mark.parametrize("name", FUTURES)
def test_another_future_leaves_the_past_as_it_was(name, history) -> None:
    cut = 300
    other = FUTURES[name](history, cut, H1)
    pd.testing.assert_frame_equal(other.iloc[:cut], history.iloc[:cut], check_dtype=False)
    assert not other.iloc[cut : cut + 1].equals(history.iloc[cut : cut + 1])
    assert other.index.is_monotonic_increasing
    assert other.index.is_unique
    assert len(other) == len(history)


def test_the_mirrored_future_is_consistent(history) -> None:
    other = FUTURES["mirrored"](history, 300, H1)
    assert (other["high"] >= other[["open", "close", "low"]].max(axis=1) - 1e-12).all()
    rises = np.sign(np.diff(np.log(history["close"].to_numpy()))[300:])
    assert np.array_equal(np.sign(np.diff(np.log(other["close"].to_numpy()))[300:]), -rises)


def test_required_columns_that_are_absent_are_filled_with_a_walk(history, tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from tapeline.core.registry import feature\n"
        "@feature(lookback=2, outputs='change', requires=('vix_close',), reference='mine')\n"
        "def change(bars):\n    return bars['vix_close'].diff()\n"
    )
    (component,) = load_user_component(str(file))
    assert all(f.passed for f in audit(component, history, H1, cuts=30))


def test_a_plain_function_can_be_audited_but_declares_no_lookback(history, tmp_path) -> None:
    file = tmp_path / "plain.py"
    file.write_text(
        "def up(bars):\n    return bars['close'] > bars['open']\ndef late(bars):\n    return bars['close'].shift(-2)\n"
    )
    (honest,) = load_user_component(f"{file}:up")
    found = failures(audit(honest, history, H1, cuts=30))
    assert found == {"tail"}
    (cheat,) = load_user_component(f"{file}:late")
    assert {"truncate", "perturb"} <= failures(audit(cheat, history, H1, cuts=30))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module_anywhere", "cannot be imported"),
        ("./nowhere.py", "no file"),
        ("json:nothing", "no function 'nothing'"),
        ("json", "registers no component"),
    ],
)
def test_user_code_that_is_not_there_is_named(target, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_user_component(target)


def test_a_file_that_fails_to_import_is_named(tmp_path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("raise RuntimeError('oh no')\n")
    with pytest.raises(ConfigurationError, match="RuntimeError: oh no"):
        load_user_component(str(file))


def test_every_registered_component_of_a_file_is_found_in_order(tmp_path) -> None:
    file = tmp_path / "two.py"
    file.write_text(
        "from tapeline.core.registry import feature\nfrom tapeline.features.momentum import rsi\n"
        "@feature(lookback=1, outputs='b', reference='')\ndef second(bars): return bars['close']\n"
        "@feature(lookback=1, outputs='a', reference='')\ndef first(bars): return bars['open']\n"
    )
    assert [component.name for component in load_user_component(str(file))] == ["second", "first"]


def test_bars_that_cannot_be_audited_are_refused(history) -> None:
    component = component_of(engulfing)
    with pytest.raises(ConfigurationError, match="at least 16 bars"):
        audit(component, history.head(10), H1)
    with pytest.raises(DataError, match="lack the columns"):
        audit(component, history.drop(columns="volume"), H1)
    with pytest.raises(DataError, match="not sorted"):
        audit(component, history.iloc[::-1], H1)
    with pytest.raises(ConfigurationError, match="cuts = 0"):
        audit(component, history, H1, cuts=0)
    with pytest.raises(ConfigurationError, match="no parameter 'windw'"):
        audit(component, history, H1, parameters={"windw": 3})


def test_cuts_are_dense_early_beside_gaps_where_told_and_the_same_each_time(history) -> None:
    still = history.copy()
    still.iloc[500:512, :4] = still["close"].iloc[499]
    told = np.array([0, 477, 640, 233])
    cuts = module._cuts(still, 160, told)
    assert np.array_equal(cuts, module._cuts(still, 160, told))
    assert {1, 2, 3, 477, 233, 500, 512} <= set(cuts)
    assert cuts.min() == 1
    assert cuts.max() < 640
    runs = np.split(cuts, np.flatnonzero(np.diff(cuts) > 1) + 1)
    assert max(map(len, runs)) >= 40
    gap = int(np.flatnonzero(np.diff(history.index.asi8) > H1.nanoseconds)[0]) + 1
    assert gap in cuts
    assert len(cuts) == 160


def test_the_audit_cuts_right_after_what_is_rare_or_new() -> None:
    ts = pd.date_range("2017-01-02", periods=40, freq="1h", tz="UTC", name="ts")
    column = np.zeros(40)
    column[:5], column[17], column[30:] = np.nan, 2.0, 1.0
    results = results_of(component_of(engulfing), ["value"])
    telling = results.telling(pd.DataFrame({"value": column}, index=ts), make_bars(40))
    # It first speaks at row 5, says what it says nowhere else at 17, and changes at 17, 18 and 30.
    assert {6, 18, 19, 31} <= set(telling[:8])
