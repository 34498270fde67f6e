"""Confidence: the formula by hand, in which way each part moves it, and whether it orders what happens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tapeline.core.errors import DataError
from tapeline.strategy.signal_confidence import (
    PARTS,
    ConfidenceRules,
    ConfidenceScorer,
    confidence_table,
    fit_confidence,
    score_confidence,
)
from tests.core.samples import eurusd

share = st.floats(0, 1)
side_taken = st.sampled_from([1, -1])
sets = st.tuples(st.booleans(), st.booleans())


def one(side=1, probability=0.8, rules=None, **parts) -> float:
    shaped = {name: [value] if name in ("sets", "members", "challenger") else value for name, value in parts.items()}
    return float(score_confidence([side], [probability], rules, **shaped)["confidence"].iloc[0])


def test_the_formula_by_hand() -> None:
    rules = ConfidenceRules(
        break_even=0.5, full=0.9, undecided=0.25, certainty_weight=2, agreement_weight=1, shadow_weight=0.5
    )
    found = score_confidence(
        [-1], [0.3], rules, interval=([0.2], [0.4]), sets=[(True, True)], members=[(0.2, 0.4)], challenger=[0.66]
    )
    assert found.loc[0, [*PARTS]].tolist() == pytest.approx([0.5, 0.8, 0.25, 0.8, 0.64])
    assert found["confidence"][0] == pytest.approx(0.5 * 0.8**2 * 0.25 * 0.8 * 0.8)
    assert found["probability"][0] == pytest.approx(0.7)
    assert one(probability=0.95, rules=rules) == 1.0
    assert one(members=(0.9, 0.5, math.nan), weights=[1, 3, 9]) == pytest.approx(0.6 * (1 - 2 * (0.3 + 3 * 0.1) / 4))


@pytest.mark.parametrize(
    ("held", "factor"),
    [((False, True), 1.0), ((True, True), 0.5), ((True, False), 0.0), ((False, False), 0.0)],
)
def test_two_classes_halve_and_the_other_one_ends_it(held, factor) -> None:
    assert one(sets=held) == pytest.approx(0.6 * factor)
    assert one(sets=held, rules=ConfidenceRules(undecided=0)) == pytest.approx(0.6 * (factor == 1.0))


@settings(max_examples=30, deadline=None)
@given(p=share, q=share, widths=st.tuples(share, share), held=sets, spreads=st.tuples(share, share), side=side_taken)
def test_each_part_moves_the_score_the_right_way(p, q, widths, held, spreads, side) -> None:
    (width, narrower), (apart, nearer) = widths, spreads

    def score(p=p, width=width, held=held, apart=apart, shadow=apart):
        members = (0.5 - apart / 2, 0.5 + apart / 2)
        shadow = p + shadow if p + shadow <= 1 else max(p - shadow, 0.0)
        return one(side, p, interval=([0.0], [width]), sets=held, members=members, challenger=shadow)

    slack = 1e-12
    assert 0.0 <= score() <= 1.0
    better, worse = sorted((p, q), key=lambda value: -side * value)
    alone = [one(side, value, interval=([0.0], [width]), sets=held) for value in (better, worse)]
    assert alone[0] >= alone[1] - slack
    assert score(width=min(width, narrower)) >= score(width=max(width, narrower)) - slack
    assert score(apart=min(apart, nearer)) >= score(apart=max(apart, nearer)) - slack
    own = (False, True) if side > 0 else (True, False)
    assert score(held=own) >= score(held=(True, True)) >= score(held=own[::-1]) == 0.0
    # The other side of the mirror.
    mirrored = one(
        -side, 1 - p, interval=([1 - width], [1.0]), sets=held[::-1], members=(0.5 - apart / 2, 0.5 + apart / 2)
    )
    plain = one(side, p, interval=([0.0], [width]), sets=held, members=(0.5 - apart / 2, 0.5 + apart / 2))
    assert mirrored == pytest.approx(plain, abs=1e-9)


def test_what_is_not_known_is_no_score_or_no_part() -> None:
    found = score_confidence(
        [1, 0, 1], [math.nan, 0.9, 0.9], interval=([math.nan] * 3, [math.nan] * 3), members=[[math.nan] * 2] * 3,
        challenger=[math.nan] * 3,
    )  # fmt: skip
    assert np.isnan(found["confidence"]).tolist() == [True, True, False]
    assert found["confidence"][2] == pytest.approx(0.8)


def world(rows: int, seed: int):
    """Truth, what three members say of it, and what happened; where members are noisy they differ."""
    draw = np.random.default_rng(seed)
    truth = draw.uniform(0.2, 0.8, rows)
    noise = np.where(draw.random(rows) < 0.5, 0.02, 0.35)
    members = np.clip(truth[:, None] + draw.normal(0, 1, (rows, 3)) * noise[:, None], 0.01, 0.99)
    return members, (draw.random(rows) < truth).astype(int)


def test_the_score_orders_outcomes_and_agreement_adds_to_the_probability() -> None:
    members, rose = world(6_000, 3)
    raw = members.mean(axis=1)
    scorer = fit_confidence(raw[:3_000], rose[:3_000], miscoverage=0.3)
    found = scorer.score(raw[3_000:], members=members[3_000:])
    won = (found["side"] > 0).to_numpy() == rose[3_000:].astype(bool)
    table = confidence_table(found["confidence"], won)
    assert table["won"].iloc[-1] > table["won"].iloc[0] + 0.12
    assert table.attrs["auc"] > 0.56
    assert table.attrs["auc"] > confidence_table(found["edge"], won).attrs["auc"]
    # The probability that goes into it comes true as often as it says.
    assert found["probability"].mean() == pytest.approx(won.mean(), abs=0.03)
    chance = confidence_table(np.random.default_rng(1).permutation(found["confidence"]), won)
    assert abs(chance.attrs["auc"] - 0.5) < 0.04


def test_on_real_bars_it_orders_which_hours_move_more_than_usual() -> None:
    bars = eurusd()
    reach = (bars["high"] - bars["low"]) / bars["close"]
    usual = reach.rolling(240).median()
    raw = (reach.rolling(6).mean() / (reach.rolling(6).mean() + usual)).to_numpy()[240:-1]
    moved = (reach.shift(-1) > usual).to_numpy()[240:-1].astype(int)
    half = raw.size // 2
    found = fit_confidence(raw[:half], moved[:half], miscoverage=0.3).score(raw[half:])
    won = (found["side"] > 0).to_numpy() == moved[half:].astype(bool)
    table = confidence_table(found["confidence"], won, bins=3)
    assert table.attrs["auc"] > 0.53
    assert table["won"].iloc[-1] > table["won"].iloc[0]


def test_a_scorer_survives_json_and_wrong_input_is_named() -> None:
    members, rose = world(400, 5)
    scorer = fit_confidence(members[:, 0], rose)
    again = ConfidenceScorer.from_json(scorer.to_json())
    assert again.score(members[:, 1]).equals(scorer.score(members[:, 1]))
    assert scorer.score([math.nan])["side"].tolist() == [0]
    with pytest.raises(DataError, match="no scorer"):
        ConfidenceScorer.from_json({"rules": {"full": 2}})
    with pytest.raises(DataError, match="probabilities in"):
        score_confidence([1], [1.2])
    with pytest.raises(DataError, match="none of 1, -1 and 0"):
        score_confidence([2], [0.5])
    with pytest.raises(DataError, match="lies above its upper"):
        score_confidence([1], [0.5], interval=([0.6], [0.5]))
    with pytest.raises(DataError, match="sets of shape"):
        score_confidence([1], [0.5], sets=[[True]])
    with pytest.raises(DataError, match="not all 0"):
        score_confidence([1], [0.5], members=[[0.5]], weights=[0.0])
    with pytest.raises(DataError, match="cannot be halved"):
        fit_confidence([0.5], [1])
    with pytest.raises(ValidationError, match="not above break_even"):
        ConfidenceRules(break_even=0.6, full=0.6)
