"""Strategies in files: what is refused, what a version is, what is decided and why, and that nothing looks ahead."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.account_tables import DECISIONS, SIGNALS
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.strategy.decision_rules import load_rules
from tapeline.strategy.rule_engine import decide as decide_by_rules
from tapeline.strategy.signal_sources import Surroundings
from tapeline.strategy.strategy import Strategy, known_strategies, load_strategy, parse_strategy
from tapeline.strategy.strategy_decisions import Decided, decide, realised_volatility
from tests.support import make_bars

H1 = Timeframe.parse("H1")
CROSS = {"source": "moving_average_cross", "fast": 5, "slow": 20}
BARS = make_bars(700, seed=4)


def strategy(**tables) -> Strategy:
    return parse_strategy({"name": "mine", "signals": CROSS, "sizing": {"method": "units", "units": 1000}, **tables})


def scores(bars: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    up = np.clip(0.5 + np.random.default_rng(seed).normal(0, 0.06, len(bars)), 0.01, 0.99)
    return pd.DataFrame(
        {
            "known_at": bars["close_ts"].to_numpy(),
            "probability": up,
            "model": "direction",
            "model_version": "1",
            "scored_at": bars["close_ts"].iloc[-1],
        },
        index=bars.index,
    )


def around(bars: pd.DataFrame, symbol: str = "EURUSD") -> Surroundings:
    """All that any packaged strategy reads, made of these bars alone."""
    needed = parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}]})
    return Surroundings(symbol, H1, scores=scores(bars), features=compute(needed, bars, H1))


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"signals": {"source": "tea_leaves"}}, "tea_leaves"),
        ({"signals": {**CROSS, "fast": 20}}, "fast = 20 is not below slow = 20"),
        ({"signals": {"source": "scores", "threshold": 0.5}}, "threshold"),
        ({"signals": {"source": "scores", "leave": 0.9}}, "leave = 0.9 is above threshold"),
        ({"sizing": None}, "[sizing] is missing"),
        ({"sizing": {"method": "fixed_fraction"}}, "needs a stop"),
        ({"sizing": {"method": "bet_size"}}, "needs probabilities"),
        ({"sizing": {"method": "risk_parity"}}, "sizing"),
        ({"validator": {}}, "require_probability would refuse every signal"),
        ({"terms": {"protect_by_distance": True}}, "protect_by_distance"),
        ({"direction": {"higher": {}}}, "higher_timeframe"),
        ({"direction": {"regime": {"method": "given"}}}, "no file holds"),
        ({"costs": {"half_spread_bps": math.nan}}, "half_spread_bps"),
        ({"symbols": {"../etc": {}}}, "../etc"),
        ({"surprise": 1}, "surprise"),
        ({"name": "No Name"}, "No Name"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(tables, named):
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        strategy(**tables)


def test_an_unknown_strategy_names_the_known_ones_and_a_broken_file_its_path(tmp_path: Path):
    with pytest.raises(ConfigurationError) as caught:
        load_strategy("holy_grail")
    assert all(name in str(caught.value.hint) for name in known_strategies())
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(ConfigurationError, match=r"broken\.toml.* not valid TOML"):
        load_strategy(broken)


def test_rules_are_found_beside_the_file_that_names_them(tmp_path: Path):
    (tmp_path / "mine.toml").write_text(
        'name = "by_rules"\n[signals]\nsource = "rules"\nrules = "own.toml"\n', encoding="utf-8"
    )
    (tmp_path / "own.toml").write_text(
        'name = "own"\n[[rule]]\nname = "buy"\naction = "long"\nwhen = "rsi_14 < 30 and score.probability > 0.5 '
        'and order_block.count > 0"\n',
        encoding="utf-8",
    )
    found = load_strategy(tmp_path / "mine.toml")
    assert found.needs_features
    assert found.needs_scores
    assert found.findings == ("order_block",)
    before = found.version
    (tmp_path / "own.toml").write_text((tmp_path / "own.toml").read_text().replace("30", "31"), encoding="utf-8")
    assert load_strategy(tmp_path / "mine.toml").version != before


def test_a_version_is_of_what_counts():
    first = strategy()
    assert first.version == strategy(description="told otherwise").version
    assert first.version.startswith("mine@")
    for change in (
        {"signals": {**CROSS, "slow": 21}},
        {"costs": {"half_spread_bps": 1}},
        {"account": {"capital": 5}},
        {"risk": {"gross_leverage": 2}},
        {"name": "yours"},
    ):
        assert strategy(**change).version != first.version


def test_a_set_of_symbols_hashes_alike_in_any_order():
    # Python orders a set of texts anew in every process.
    rules = {"require_probability": False, "symbols": ["EURUSD", "GBPUSD", "USDJPY"]}
    plain = strategy(validator=rules).description["validator"]["symbols"]
    assert plain == ["EURUSD", "GBPUSD", "USDJPY"]


def test_currencies_follow_from_names_unless_terms_say_otherwise():
    one = strategy(symbols={"GOLD": {"currency": "EUR", "lot": 1}})
    settings = one.settings(["USDJPY"])
    assert (settings.currency, settings.terms_of("USDJPY").commission.currency) == ("JPY", "JPY")
    assert one.settings(["BTC/USDT:USDT"]).currency == "USDT"
    assert one.settings(["GOOGL"]).currency == "USD"
    assert one.settings(["GOLD"]).currency == "EUR"
    with pytest.raises(ConfigurationError, match="EUR, JPY"):
        one.settings(["GOLD", "USDJPY"])
    assert strategy(account={"currency": "CHF"}).settings(["EURUSD", "USDJPY"]).currency == "CHF"


@pytest.mark.parametrize("name", known_strategies())
def test_nothing_looks_ahead(name: str):
    """Cut the history, and change the future: what was decided before stays, verdicts, sizes and stops too."""
    one = load_strategy(name)
    whole = decide(one, BARS, around(BARS))
    assert len(whole.decisions) > 5
    for cut in (150, 512, 699):
        earlier = BARS.iloc[:cut]
        other = BARS.copy()
        other.iloc[cut:, :4] *= 1.7
        held = around(BARS)
        for bars, seen in ((earlier, around(earlier)), (other, around(other))):
            # The random scores are those of the whole history.
            seen = Surroundings("EURUSD", H1, scores=held.scores.iloc[: len(bars)], features=seen.features)
            found = decide(one, bars, seen)
            until = earlier.index[-1]
            for frame in ("decisions", "steps"):
                pd.testing.assert_frame_equal(getattr(found, frame)[:until], getattr(whole, frame)[:until])
            mine, theirs = (each.signals[each.signals["ts"] <= until] for each in (found, whole))
            pd.testing.assert_frame_equal(mine, theirs)
            if len(bars) == cut:
                assert found.explain() == whole.explain()[: len(found.decisions)]


def test_a_cross_is_where_the_order_of_the_means_changes():
    found = decide(strategy(), BARS, Surroundings("EURUSD", H1))
    close, expected, before = BARS["close"].tolist(), [], 0
    for row in range(19, len(close)):
        fast, slow = sum(close[row - 4 : row + 1]) / 5, sum(close[row - 19 : row + 1]) / 20
        side = (fast > slow) - (fast < slow)
        if before and side and side != before:
            expected.append((BARS.index[row], side))
        before = side or before
    assert list(zip(found.signals["ts"], found.signals["side"], strict=True)) == expected
    assert found.decisions["target"].tolist() == [1000.0 * side for _, side in expected]
    longs = decide(strategy(signals={**CROSS, "sides": "long"}), BARS, Surroundings("EURUSD", H1))
    assert set(longs.decisions["target"]) == {0.0, 1000.0}


def test_a_score_is_a_switch_with_two_thresholds():
    signals = {"source": "scores", "threshold": 0.56, "leave": 0.52}
    given = scores(BARS)
    found = decide(strategy(signals=signals), BARS, Surroundings("EURUSD", H1, scores=given))
    held, expected = 0, []
    for at, up in given["probability"].items():
        if up >= 0.56:
            now = 1
        elif 1 - up >= 0.56:
            now = -1
        elif (held > 0 and up < 0.52) or (held < 0 and 1 - up < 0.52):
            now = 0
        else:
            now = held
        if now != held:
            expected.append((at, now))
        held = now
    assert list(zip(found.signals["ts"], found.signals["side"], strict=True)) == expected
    taken = found.signals[found.signals["side"] != 0]
    assert (taken["probability"] >= 0.56).all()
    assert taken["confidence"].between(0, 1).all()
    assert found.signals.loc[found.signals["side"] == 0, "probability"].isna().all()


def test_the_validator_refuses_entries_and_never_an_exit():
    rules = {"require_probability": True, "calendar": "24x5"}
    given = Surroundings("EURUSD", H1, scores=scores(BARS))
    plain = decide(strategy(signals={"source": "scores"}), BARS, given).signals
    found = decide(strategy(signals={"source": "scores"}, validator=rules), BARS, given)
    leaves = found.signals["side"] == 0
    assert leaves.sum() > 10
    assert found.signals.loc[leaves, "accepted"].all()
    assert (found.decisions["target"] == 0).sum() == leaves.sum()
    refused = found.signals[~found.signals["accepted"]]
    assert set(refused["reason"]) == {"out_of_session"}
    assert not found.decisions.index.isin(refused["ts"]).any()
    pd.testing.assert_frame_equal(found.signals[plain.columns[:8]], plain[plain.columns[:8]])


def test_of_two_scores_of_a_bar_the_one_made_first_counts_and_late_ones_wait():
    given = scores(BARS).assign(probability=0.48)
    given.iloc[100, given.columns.get_loc("probability")] = 0.9
    again = given.iloc[[100]].assign(
        probability=0.1, model_version="2", scored_at=given["scored_at"] + pd.Timedelta("1h")
    )
    both = pd.concat([given, again])
    wanted = strategy(signals={"source": "scores"})
    found = decide(wanted, BARS, Surroundings("EURUSD", H1, scores=both))
    assert found.signals["ts"].tolist() == BARS.index[100:102].tolist()
    assert found.signals["side"].tolist() == [1, 0]
    named = {"source": "scores", "version": "2"}
    found = decide(strategy(signals=named), BARS, Surroundings("EURUSD", H1, scores=both))
    assert found.signals["side"].tolist() == [-1]
    # A score that came an hour late is acted on at the close after it.
    late = given.iloc[[100]].assign(known_at=given["known_at"].iloc[101])
    found = decide(wanted, BARS, Surroundings("EURUSD", H1, scores=late))
    assert found.signals["ts"].tolist() == [BARS.index[101]]
    two = pd.concat([given, given.assign(model="other")])
    with pytest.raises(ConfigurationError, match="direction', 'other"):
        decide(wanted, BARS, Surroundings("EURUSD", H1, scores=two))
    with pytest.raises(DataError, match="no scores of nobody"):
        decide(
            strategy(signals={"source": "scores", "model": "nobody"}), BARS, Surroundings("EURUSD", H1, scores=given)
        )
    with pytest.raises(ConfigurationError, match="none are given"):
        decide(wanted, BARS, Surroundings("EURUSD", H1))


def test_a_refused_signal_leaves_the_other_side_and_enters_nothing():
    rule = {"method": "cross", "fast": 40, "window": 80, "sideways": "none"}
    found = decide(strategy(direction={"trend": rule}), BARS, Surroundings("EURUSD", H1))
    refused = found.signals[~found.signals["accepted"]]
    assert set(refused["reason"]) == {"direction_trend"}
    assert len(refused) > 5
    targets = found.decisions["target"]
    held, left = 0, 0
    for signal in found.signals.itertuples():
        if signal.accepted:
            held = signal.side
            assert targets[signal.ts] == 1000 * signal.side
        elif held * signal.side < 0:
            assert targets[signal.ts] == 0
            left += 1
        else:
            assert signal.ts not in targets.index
    assert left > 2


@pytest.fixture(scope="module")
def planned() -> Decided:
    tables = {
        "sizing": {"method": "fixed_fraction", "share": 0.01},
        "protection": {"initial": {"kind": "atr", "value": 2}, "take": {"kind": "r", "value": 2}},
        "terms": {"lot": 100},
    }
    return decide(strategy(**tables), BARS, Surroundings("EURUSD", H1))


def test_a_stop_loses_the_share_of_capital_that_was_asked(planned: Decided):
    entries = planned.steps[planned.steps["reason"] == "entry"]
    assert len(entries) > 10
    lost = entries["units"] * entries["stop_distance"]
    assert (lost <= 1000).all()
    assert (lost > 1000 - 100 * entries["stop_distance"]).all()
    assert (entries["units"] % 100 == 0).all()
    chosen = planned.decisions.loc[entries.index]
    assert np.allclose(chosen["take"], 2 * chosen["stop"])
    assert (chosen["stop"] == entries["stop_distance"]).all()


def test_each_decision_is_explained_and_fits_its_table(planned: Decided):
    rows = planned.decision_rows("run")
    assert len(DECISIONS.to_arrow(rows)) == len(planned.decisions)
    assert len(SIGNALS.to_arrow(planned.signal_rows("run"))) == len(planned.signals)
    told = json.loads(rows["explanation"].iloc[0])
    first = planned.signals.iloc[0]
    assert told["why"] == "entry"
    assert told["signal"]["side"] == first["side"]
    assert told["seen"].keys() == {"fast_mean", "slow_mean"}
    assert told["size"]["units"] == abs(planned.decisions["target"].iloc[0])
    assert told["size"]["equity"] == 100_000
    assert told["protection"] == "distance from the entry"


@pytest.mark.parametrize(
    ("sizing", "expected"),
    [
        ({"method": "notional", "leverage": 2}, lambda price, sigma: 200_000 / price),
        ({"method": "volatility_target", "target": 0.1, "maximum_leverage": 1000}, lambda p, s: 10_000 / s / p),
    ],
)
def test_sizes_in_money(sizing, expected):
    found = decide(strategy(sizing=sizing, volatility_window=30), BARS, Surroundings("EURUSD", H1))
    sigma = realised_volatility(BARS, 30)[BARS.index.get_indexer(found.decisions.index)]
    wanted = expected(found.steps["price"], sigma).fillna(0)
    assert np.allclose(found.decisions["target"].abs(), wanted, rtol=1e-12)
    assert (wanted > 0).sum() > 10


def test_probabilities_size_where_the_source_has_them():
    one = strategy(signals={"source": "scores", "threshold": 0.6}, sizing={"method": "bet_size"})
    found = decide(one, BARS, Surroundings("EURUSD", H1, scores=scores(BARS)))
    entered = found.signals[found.signals["side"] != 0].set_index("ts")
    units = found.decisions["target"].abs()[entered.index]
    order = np.argsort(entered["probability"].to_numpy())
    assert (np.diff((units * found.steps["price"][entered.index]).to_numpy()[order]) >= 0).all()
    assert units.min() > 0


def test_rules_keep_their_sizes_and_stops_unless_the_strategy_has_its_own():
    seen = around(BARS)
    by_rules = {"name": "mine", "signals": {"source": "rules", "rules": "pullback"}}
    found = decide(parse_strategy(by_rules), BARS, seen).decisions
    plain = decide_by_rules(load_rules("pullback"), BARS.assign(rsi_14=seen.features["rsi_14"])).decisions
    assert found["target"].tolist() == plain["target"].tolist()
    entered = found[found["target"] != 0]
    assert len(entered) > 3
    assert entered["stop"].tolist() == plain.loc[entered.index, "stop"].tolist()
    sized = parse_strategy(by_rules | {"sizing": {"method": "fixed_fraction", "share": 0.01}})
    again = decide(sized, BARS, seen)
    risked = again.decisions["target"].abs() * (BARS["close"] - again.decisions["stop"]).abs()
    assert np.allclose(risked[entered.index], 1000)
    assert again.explain()[0]["seen"]["rule"] in {"buy_weakness", "sell_strength"}
    protected = parse_strategy(by_rules | {"protection": {"initial": {"kind": "share", "value": 0.01}}})
    planned = decide(protected, BARS, seen)
    stops = planned.decisions["stop"][planned.steps["reason"] == "entry"]
    assert len(stops) > 3
    assert np.allclose(stops, 0.01 * BARS["close"][stops.index])


def test_realised_volatility_is_that_of_the_definition():
    changes = np.log(BARS["close"]).diff().iloc[-50:]
    years = (BARS["close_ts"].iloc[-1] - BARS["close_ts"].iloc[-51]) / pd.Timedelta(days=365.2425)
    assert realised_volatility(BARS, 50)[-1] == pytest.approx(math.sqrt((changes**2).sum() / years), rel=1e-9)


def test_no_bars_and_foreign_series_are_refused():
    with pytest.raises(DataError, match="no bars of EURUSD"):
        decide(strategy(), BARS.iloc[:0], Surroundings("EURUSD", H1))
    with pytest.raises(DataError, match="not on the index"):
        decide(strategy(), BARS, Surroundings("EURUSD", H1, equity=pd.Series([1.0], BARS.index[:1])))
