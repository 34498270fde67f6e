"""Drift of a model in use: what is planted is told as what it is, and in time; else nothing is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import DataError
from tapeline.models.performance import log_losses
from tapeline.models.score_drift import KINDS, model_drift, reference_version
from tapeline.quality.concept_drift import DriftDetector

SKILL = 0.5


def said(
    seed: int, rows: int, *, start: str = "2016-01-04", overlap: int = 1, turned: bool = False, bias: float = 0.0,
    wide: float = 1.0,
) -> pd.DataFrame:  # fmt: skip
    """Calibrated probabilities of a planted signal with what came of it.

    ``turned``: from here on the signal says nothing. ``bias`` raises the outcomes, not the probabilities. ``wide``
    spreads probabilities and outcomes alike, so that they stay calibrated. Labels overlap over so many rows.
    """
    generator = np.random.default_rng(seed)
    at = pd.date_range(start, periods=rows, freq="1h", tz="UTC")
    signal = wide * SKILL * generator.standard_normal(rows)
    steps = generator.standard_normal(rows + overlap)
    noise = np.convolve(steps, np.ones(overlap) / np.sqrt(overlap), "valid")[:rows]
    came = noise < (0.0 if turned else signal) + bias
    # The normal distribution function of the signal.
    table = np.linspace(-6, 6, 2001)
    density = np.exp(-(table**2) / 2)
    probability = np.interp(signal, table, np.cumsum(density) / density.sum())
    return pd.DataFrame(
        {
            "known_at": at,
            "t_end": at + pd.Timedelta(hours=overlap) - pd.Timedelta("1s"),
            "y": came.astype(int),
            "probability": probability,
        }
    )


def alarms(found: pd.DataFrame) -> set[str]:
    return set(found.loc[found["alarm"], "kind"])


@pytest.mark.parametrize("overlap", [1, 8])
def test_where_nothing_changed_almost_nothing_is_told(overlap: int) -> None:
    raised = [
        bool(
            alarms(
                model_drift(
                    said(seed, 2000, overlap=overlap), said(seed + 500, 700, start="2016-06-01", overlap=overlap)
                )
            )
        )
        for seed in range(12)
    ]
    assert sum(raised) <= 1


def test_each_change_is_told_as_what_it_is() -> None:
    learnt = said(1, 2000)
    later = {"start": "2016-06-01"}
    assert alarms(model_drift(learnt, said(2, 600, turned=True, **later))) == {"calibration", "performance"}
    assert "calibration" in alarms(model_drift(learnt, said(3, 600, bias=0.5, **later)))
    assert alarms(model_drift(learnt, said(4, 600, wide=2.0, **later))) == {"score"}, "calibrated, and better for it"
    biased = model_drift(learnt, said(3, 600, bias=0.5, **later)).set_index("statistic")
    assert biased.loc["bias", "after"] > 0.1
    worse = model_drift(learnt, said(2, 600, turned=True, **later))
    base = worse[worse["statistic"] == "base_rate"].iloc[0]
    assert base["alarm"]
    assert base["value"] > 0


def test_a_planted_fall_is_told_within_a_stated_number_of_rows() -> None:
    delays = []
    for seed in range(10):
        learnt = said(seed, 2000)
        whole = pd.concat(
            [said(seed + 50, 300, start="2016-06-01"), said(seed + 90, 500, start="2016-06-13 12:00", turned=True)],
            ignore_index=True,
        )
        found = model_drift(learnt, whole, window=200)
        told = found[(found["kind"] == "performance") & found["statistic"].isin(["page_hinkley", "adwin"])]
        assert (told["ts"] > whole["known_at"].iloc[300]).all(), "nothing is told before it happened"
        if len(told):
            delays.append(int((whole["t_end"] <= told["ts"].min()).sum()) - 300)
    assert len(delays) >= 8, "of ten"
    assert np.median(delays) < 300
    early = model_drift(said(0, 2000), whole.iloc[:500], window=200).set_index("statistic")
    assert early.loc["log_loss", "alarm"], "the band tells it once the window holds 200 such rows"


def test_a_finding_depends_on_nothing_that_came_later() -> None:
    learnt = said(3, 1500)
    whole = pd.concat(
        [said(4, 200, start="2016-06-01"), said(5, 500, start="2016-06-10", turned=True)], ignore_index=True
    )
    streams = ["page_hinkley", "adwin"]
    later = model_drift(learnt, whole)
    cut = later.loc[later["statistic"].isin(streams), "ts"].min()
    before = model_drift(learnt, whole[whole["t_end"] <= cut])
    told = before[before["statistic"].isin(streams)].reset_index(drop=True)
    expected = later[later["statistic"].isin(streams) & (later["ts"] <= cut)].reset_index(drop=True)
    assert len(told) >= 1
    pd.testing.assert_frame_equal(told, expected)
    pd.testing.assert_frame_equal(later, model_drift(learnt, whole.sample(frac=1, random_state=0)))


def test_the_loss_stream_is_rivers_on_rows_that_do_not_overlap() -> None:
    learnt, later = said(6, 1500, overlap=3), said(7, 900, start="2016-06-01", overlap=3, turned=True)
    rows = pd.concat([learnt.iloc[::3].tail(500), later.iloc[::3]], ignore_index=True)
    detector = DriftDetector("page_hinkley")
    states = [detector.update(loss) for loss in log_losses(rows["y"], rows["probability"])]
    told = [place for place, state in enumerate(states) if state == "drift" and place >= 500]
    found = model_drift(learnt, later)
    mine = found[(found["kind"] == "performance") & (found["statistic"] == "page_hinkley")]
    assert list(mine["ts"]) == [rows["t_end"].iloc[place] for place in told]
    assert told


def test_the_band_is_that_of_windows_of_the_reference() -> None:
    learnt, later = said(8, 1500), said(9, 400, start="2016-06-01")
    found = model_drift(learnt, later).set_index("statistic")
    row = found.loc["log_loss"]
    losses = log_losses(learnt["y"], learnt["probability"])
    assert row["before"] == pytest.approx(losses.mean())
    assert row["value"] == pytest.approx(log_losses(later["y"], later["probability"]).mean())
    # Rows are independent here: the deviation of a window's mean, widened for the reference being a sample.
    deviation = losses.std() / np.sqrt(400) * np.sqrt(1 + 400 / 1500)
    assert 2.0 < (row["limit"] - row["typical"]) / deviation < 3.2
    assert set(found["kind"]) == set(KINDS)


def test_too_little_is_said_to_be_too_little_and_a_reference_has_one_name() -> None:
    learnt = said(0, 400)
    assert model_drift(learnt, said(1, 99, start="2016-06-01")).empty
    with pytest.raises(DataError, match="199 scored rows"):
        model_drift(learnt.iloc[:199], learnt)
    with pytest.raises(DataError, match="lack the columns"):
        model_drift(learnt.drop(columns="y"), learnt)
    with pytest.raises(DataError, match="not from 0 to 1"):
        model_drift(learnt, learnt.assign(probability=1.5))
    assert reference_version(learnt) == reference_version(learnt.iloc[::-1])
    assert reference_version(learnt) != reference_version(learnt.assign(y=1 - learnt["y"]))
