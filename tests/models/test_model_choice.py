"""The simplest model stays unless another one is shown to be better, however many were tried."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.evaluation.metrics import brier_score, log_loss
from tapeline.models.calibration import sigmoid
from tapeline.models.ensemble import StackingEnsemble
from tapeline.models.estimator import build_estimator
from tapeline.models.model_choice import choose_model, row_losses, select_estimator
from tests.models.members import Told, hours

NAMES = ["base", "linear", "trees", "net", "stack", "hybrid"]


def noise(seed: int, rows: int = 240, overlap: int = 1) -> pd.DataFrame:
    """Losses of candidates that are equally good: a common part, one of each, and overlapping labels."""
    generator = np.random.default_rng(seed)
    raw = generator.normal(size=(rows + overlap - 1, len(NAMES))) + generator.normal(size=(rows + overlap - 1, 1))
    summed = [np.convolve(column, np.ones(overlap), "valid") for column in raw.T]
    return pd.DataFrame(np.column_stack(summed), columns=NAMES)


@pytest.mark.parametrize("correction", ["confidence_set", "holm"])
@pytest.mark.parametrize("overlap", [1, 8])
def test_of_pure_noise_the_reference_is_chosen_in_nine_of_ten_seeds(correction: Any, overlap: int) -> None:
    kept, naive = 0, 0
    for seed in range(100):
        incumbent = "trees" if seed % 2 else None
        losses = noise(seed, overlap=overlap)
        choice = choose_model(losses, incumbent=incumbent, correction=correction, horizon=overlap, samples=200)
        kept += choice.name == (incumbent or "base")
        naive += losses.mean().idxmin() == (incumbent or "base")
    assert kept >= 90
    # The best of six would have been another one nearly always.
    assert naive < 40


@pytest.mark.parametrize("correction", ["confidence_set", "holm"])
def test_one_that_is_better_is_chosen_and_of_equally_good_ones_the_simplest(correction: Any) -> None:
    found = []
    for seed in range(20):
        losses = noise(seed, rows=400)
        losses[["trees", "net", "hybrid"]] -= 0.6
        choice = choose_model(losses, correction=correction, samples=200)
        found.append(choice.name)
        assert choice.table.loc[choice.name, "loss"] < choice.table.loc["base", "loss"]
        assert "significantly better than 'base'" in choice.reason
    assert found.count("trees") >= 17


def test_a_much_better_complex_one_beats_a_slightly_better_simple_one() -> None:
    losses = noise(0, rows=600)
    losses["linear"] -= 0.5
    losses["net"] -= 1.5
    assert choose_model(losses).name == "net"
    assert choose_model(losses, correction="holm").name == "net"


def test_an_incumbent_that_is_worse_goes_and_one_that_is_not_stays() -> None:
    losses = noise(1, rows=400)
    assert choose_model(losses.assign(net=losses["net"] + 1.0), incumbent="net").name == "base"
    stays = choose_model(losses, incumbent="net")
    assert stays.name == stays.reference == "net"
    assert "stays" in stays.reason


def test_the_table_says_what_each_number_should() -> None:
    losses = noise(2, rows=300)
    losses["net"] -= 0.4
    table = choose_model(losses, samples=500).table
    assert list(table.index) == NAMES
    assert table["loss"].to_numpy() == pytest.approx(losses.mean().to_numpy())
    assert ((table["low"] < table["loss"]) & (table["loss"] < table["high"])).all()
    # Rows of noise without memory: the bootstrap's interval is that of the standard error.
    assert (table["high"] - table["low"]).to_numpy() == pytest.approx(
        2 * 1.96 * losses.std().to_numpy() / np.sqrt(300), rel=0.25
    )
    assert table.loc["base", ["difference", "statistic"]].tolist() == [0, 0]
    assert (table["p_holm"] >= table["p_better"]).all()
    assert table["deflated"].isna().all()


def test_symbols_of_one_time_count_once() -> None:
    """Ten symbols that move as one are no ten observations."""
    losses = noise(3, rows=60)
    losses["net"] -= 0.4
    many = losses.loc[losses.index.repeat(10)].reset_index(drop=True)
    together = choose_model(many, instant=np.arange(60).repeat(10))
    pd.testing.assert_frame_equal(together.table, choose_model(losses).table)
    naive = choose_model(many)
    assert naive.table.loc["net", "p_better"] < 0.1 * together.table.loc["net", "p_better"]
    # The order of the rows is free, and weights count within a time.
    shuffled = np.random.default_rng(0).permutation(600)
    again = choose_model(many.iloc[shuffled], instant=np.arange(60).repeat(10)[shuffled])
    pd.testing.assert_frame_equal(again.table, together.table)
    weight = np.tile([1.0] + [0.0] * 9, 60)
    spoilt = many.mask(pd.Series(weight == 0), 99.0)
    weighted = choose_model(spoilt, instant=np.arange(60).repeat(10), weight=weight)
    pd.testing.assert_frame_equal(weighted.table, together.table)


def returns(seed: int, edge: float) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    made = pd.DataFrame(generator.normal(0, 0.01, (500, len(NAMES))), columns=NAMES)
    made["net"] += edge
    return made


def test_returns_must_stand_up_to_the_number_of_trials() -> None:
    good = returns(1, 0.0025)
    assert choose_model(returns=good).name == "net"
    shown = choose_model(returns=good)
    assert shown.trials == len(NAMES)
    assert shown.table.loc["net", "deflated"] > 0.95
    # The same returns, found after very many trials.
    tried = choose_model(returns=good, trials=1_000_000)
    assert tried.name == "base"
    assert tried.table.loc["net", "deflated"] < shown.table.loc["net", "deflated"]
    assert "number of candidates" in tried.reason


def test_of_worthless_returns_the_simplest_is_chosen() -> None:
    assert sum(choose_model(returns=returns(seed, 0.0), samples=200).name == "base" for seed in range(60)) >= 57


def test_row_losses_are_those_whose_mean_is_the_metric() -> None:
    generator = np.random.default_rng(0)
    p, y = generator.uniform(size=200), generator.integers(0, 2, 200)
    assert row_losses({"a": p}, y)["a"].mean() == pytest.approx(log_loss(y, p))
    assert row_losses({"a": p}, y, loss="brier")["a"].mean() == pytest.approx(brier_score(y, p))
    with pytest.raises(DataError, match="'a'"):
        row_losses({"a": p + 1}, y)


def test_estimators_are_compared_on_folds_of_the_past_alone() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(1200, 3))
    truth = sigmoid(1.2 * rows[:, 0])
    y = (generator.uniform(size=1200) < truth).astype(int)
    t0, t_end = hours(1200, 2)
    line = build_estimator("logistic")
    told = np.column_stack([np.full(1200, 0.5), truth])
    candidates = [
        ("base rate", build_estimator("majority")),
        ("line", line),
        ("stack", StackingEnsemble([("line", line), ("base", build_estimator("majority"))], folds=3)),
    ]
    choice = select_estimator(candidates, rows, y, t0=t0, t_end=t_end, sample_weight=np.full(1200, 0.4))
    assert choice.name == "line"
    # On its own truth, none of the noise columns: nothing beats the base rate.
    nothing = select_estimator(candidates, rows, generator.integers(0, 2, 1200), t0=t0, t_end=t_end)
    assert nothing.name == "base rate"
    pair = [("half", Told(0)), ("truth", Told(1))]
    assert select_estimator(pair, told, y, t0=t0, t_end=t_end, scheme="purged").name == "truth"


def test_estimators_that_learn_noise_do_not_replace_the_base_rate() -> None:
    kept = 0
    t0, t_end = hours(300, 4)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        rows = np.column_stack([generator.uniform(0.45, 0.55, (300, 2)), generator.normal(size=(300, 2))])
        candidates = [
            ("base rate", build_estimator("majority")),
            ("one", Told(0)),
            ("two", Told(1)),
            ("line", build_estimator("logistic", parameters={"C": 1e-3})),
        ]
        y = np.convolve(generator.normal(size=303), np.ones(4), "valid") > 0
        kept += select_estimator(candidates, rows, y, t0=t0, t_end=t_end, folds=4, samples=200).name == "base rate"
    assert kept >= 18


def test_what_decides_nothing_is_refused() -> None:
    losses = noise(0)
    for options, told in (
        ({"incumbent": "forest"}, "incumbent"),
        ({"correction": "none"}, "correction"),
        ({"significance": 0.0}, "significance"),
        ({"trials": 0}, "trials"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            choose_model(losses, **options)
    with pytest.raises(ConfigurationError, match="neither"):
        choose_model()
    with pytest.raises(ConfigurationError, match="fewer than two"):
        choose_model(losses[["base"]])
    with pytest.raises(DataError, match="29 decision times"):
        choose_model(losses[:29])
    with pytest.raises(DataError, match="not finite"):
        choose_model(losses.assign(net=np.nan))
    with pytest.raises(DataError, match="different candidates"):
        choose_model(losses, returns=losses[NAMES[::-1]])
    with pytest.raises(DataError, match="do not belong together"):
        choose_model(losses, instant=np.arange(3))
