"""The card says what the data says: of a planted signal, of a planted failure, and of what could not be computed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation.metrics import auc, reliability_table
from tapeline.features.engine import compute as compute_features
from tapeline.features.feature_set import parse_feature_set
from tapeline.labels.label_set import compute as compute_labels
from tapeline.labels.label_set import load_label_set
from tapeline.models.card_page import card_markdown, card_numbers, intended_use, limits, render_card
from tapeline.models.card_store import card_path, fetch_card
from tapeline.models.data_facts import FeatureRange
from tapeline.models.dataset import Dataset, assemble
from tapeline.models.model_card import (
    ModelCard,
    explain_decisions,
    holdout_slicings,
    make_card,
    regime_columns,
    reliability_with_blocks,
)
from tapeline.models.path_distribution import path_distribution
from tapeline.models.refit import FamilyRefit
from tapeline.models.registry import Registry
from tapeline.models.slices import by_column, measure_slices
from tapeline.models.tracking import open_tracking
from tapeline.models.training import train
from tapeline.models.validation import time_holdout
from tapeline.models.walk_forward import walk_forward
from tests.core.samples import eurusd
from tests.evaluation.test_report import HOSTILE, Page
from tests.models.synthetic import VERSIONS, make_dataset, make_parts, make_settings


@pytest.fixture(scope="module")
def split() -> tuple[Dataset, Dataset]:
    dataset = make_dataset(2400, signal=0.6)
    development, holdout = time_holdout(dataset.t0, dataset.t_end, 0.2)
    return dataset.take(development), dataset.take(holdout)


@pytest.fixture(scope="module")
def card(trained, split) -> ModelCard:
    settings, result = trained
    registry = Registry.open(settings)
    model = registry.load(registry.find("direction-H1"))
    return make_card(result, model, *split, settings=settings, mean_block=2.0)


@pytest.fixture(scope="module")
def page(card) -> str:
    return render_card(card)


def words_of(text: str) -> str:
    return " ".join(Page(text).text.split())


def test_the_card_holds_everything_about_a_model(card, page) -> None:
    words = words_of(page)
    for expected in (
        "direction-H1, version 1",
        "The model's probabilities were better than the base rate on the holdout",
        "It learnt from 2017-01-02 to 2017-03-23, of EURUSD",
        "Area under the ROC curve",
        "exact, TreeSHAP by LightGBM, on the newest 480 rows of the holdout",
        "The surest decision that came true",
        "The surest decision that did not",
        "15 purged splits of 6 blocks, 2 tested at once, make 5 whole paths",
        "Anchored",
        "Rolling 2",
        "Deflated Sharpe ratio",
        "Probability of backtest overfitting",
        "no queue, no partial fill",
        "test@1, 8 columns",
        "next_bar@1: h = 1",
        "tapeline 0.1.0",
        card.result.booster_sha256,
        card.result.run_id,
        "verdict-1",
    ):
        assert expected in words, expected
    read = Page(page)
    pictures = [a["src"] or "" for tag, a in read.tags if tag == "img"]
    assert len(pictures) == 10
    assert all(source.startswith("data:image/svg+xml;base64,") for source in pictures)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}


def test_what_was_planted_is_what_the_card_says(card) -> None:
    assert card.importance["feature"][0] == "f0"
    assert card.importance["shap_share"][0] > 0.5
    for one in card.explained:
        assert one.explanation.weights["feature"][0] == "f0"
    best, typical, worst = card.explained
    assert min(best.explanation.r_squared, worst.explanation.r_squared) > 0.5
    loss = [abs(one.row["y"] - one.row["probability"]) for one in (best, typical, worst)]
    assert loss == sorted(loss)
    assert (best.row["y"] == 1) == (best.row["probability"] > 0.5)
    assert (worst.row["y"] == 1) != (worst.row["probability"] > 0.5)
    assert card.paths is not None
    assert card.paths.summary.set_index("metric").loc["auc", "bad"] > 0.6
    assert [walk.kind for walk in card.walks] == ["anchored", "rolling 2"]
    whole = card.slices.iloc[0]
    assert whole["auc"] == auc(card.result.holdout["y"], card.result.holdout["probability"])
    assert whole["trades"] == len(card.result.trades)


def test_the_run_keeps_the_card_and_one_command_fetches_it(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapeline.cli import application

    settings, result = trained
    assert Path(result.card) == card_path(settings, "direction-H1", "1")
    first = Path(result.card).read_text(encoding="utf-8")
    assert "15 purged splits" in words_of(first)
    client = open_tracking(settings).client
    numbers = json.loads(Path(client.download_artifacts(result.run_id, "card/card.json")).read_text())
    assert numbers["slices"][0]["auc"] == pytest.approx(result.metrics.set_index("metric").loc["auc", "value"])
    metrics = client.get_run(result.run_id).data.metrics
    summary = {row["metric"]: row for row in numbers["path_summary"]}
    assert metrics["paths_auc_bad"] == pytest.approx(summary["auc"]["bad"])
    assert metrics["walk_rolling_percentile_of_random_entries"] > 95
    Path(result.card).unlink()
    assert fetch_card(settings, "direction-H1").read_text(encoding="utf-8") == first
    monkeypatch.setenv("TAPELINE_ROOT", str(settings.root))
    monkeypatch.delenv("TAPELINE_SETTINGS", raising=False)
    monkeypatch.chdir(settings.root)
    said = CliRunner().invoke(application, ["models", "card", "direction-H1", "--version", "champion"])
    assert said.exit_code == 0
    assert said.output.strip() == f"Card {Path(result.card).as_uri()}"
    with pytest.raises(ConfigurationError, match="no version or alias '7'"):
        fetch_card(settings, "direction-H1", "7")
    with pytest.raises(ConfigurationError, match="has no version"):
        fetch_card(settings, "no-such-model")


def test_a_version_without_a_card_says_so(settings) -> None:
    from tests.models.test_registry import add

    add(Registry.open(settings), 1)
    with pytest.raises(DataError, match="version 1 keeps no model card"):
        fetch_card(settings, "direction")


def test_a_regime_in_which_the_model_fails_stands_among_the_limits(card, split) -> None:
    development, holdout = split
    scored = card.result.holdout.copy()
    high = holdout.X[:, 3] > np.quantile(development.X[:, 3], 2 / 3)
    scored.loc[high, "probability"] = 1 - scored.loc[high, "probability"]
    slicing = by_column("volatility", development.X[:, 3], holdout.X[:, 3])
    slices = measure_slices(scored, [slicing], base_rate=0.5, mean_block=2.0)
    told = limits(replace(card, slices=slices))
    assert any(text.startswith("It is worse where volatility is 'high' than in all: skill -") for text in told)
    assert any("None of" in text for text in limits(card)) == (not (card.slices["p_holm"] < 0.05).any())


def test_rows_beyond_what_was_learnt_from_are_found(split) -> None:
    development, holdout = split
    known = FeatureRange.of(development.X, development.columns)
    assert not known.rows_outside(development.X).any()
    far = holdout.X.copy()
    far[5, 2] = 99.0
    far[6, 1] = np.nan
    assert known.outside(far)[5, 2]
    assert not known.outside(far)[6, 1]
    with pytest.raises(DataError, match="do not have the 8 features"):
        known.outside(far[:, :3])
    with pytest.raises(DataError, match="no range"):
        FeatureRange.of(far[:0], development.columns)
    empty = FeatureRange.of(np.full((2, 1), np.nan, dtype=np.float32), ("x",))
    assert empty.rows_outside(np.zeros((1, 1), dtype=np.float32)).all()


def test_what_cannot_be_computed_is_said_and_the_rest_stands(trained, split, tmp_path: Path) -> None:
    settings, result = trained
    registry = Registry.open(settings)
    model = registry.load(registry.find("direction-H1"))
    development, holdout = split
    short = make_card(result, model, development.take(np.arange(4)), holdout, settings=settings, mean_block=2.0)
    assert short.paths is None
    assert [text.partition(":")[0] for text in short.absent] == [
        "Combinatorial paths could not be made",
        "The anchored walk through time could not be made",
        "The rolling walk through time could not be made",
    ]
    assert set(short.absent) < set(limits(short))
    off = make_settings(tmp_path, card=True).model_copy(
        update={"card": settings.card.model_copy(update={"refits": False})}
    )
    without = make_card(result, model, development, holdout, settings=off, mean_block=2.0)
    assert without.paths is None
    assert not without.walks
    assert "card.refits is off" in words_of(render_card(without))
    assert card_numbers(without)["paths"] is None


def test_hostile_names_are_text_on_the_card(card) -> None:
    coverage = card.coverage.assign(symbol=HOSTILE)
    features = card.importance.assign(feature=[HOSTILE, *card.importance["feature"][1:]])
    hostile = replace(card, coverage=coverage, importance=features, result=replace(card.result, reason=HOSTILE))
    page = Page(render_card(hostile))
    assert not {tag for tag, _ in page.tags} & {"script"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 4


def test_the_same_card_gives_the_same_bytes_and_numbers_that_json_keeps(card, page) -> None:
    assert render_card(card) == page
    numbers = card_numbers(card)
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert numbers["importance"][0]["feature"] == "f0"
    assert numbers["slices"][0]["p_value"] is None
    assert {walk["kind"] for walk in numbers["walks"]} == {"anchored", "rolling 2"}
    short = card_markdown(card, link="file:///card.html")
    assert "| Area under the ROC curve |" in short
    assert short.endswith("The whole card: file:///card.html")


def test_intended_use_names_symbols_and_how_far_ahead(card) -> None:
    assert "of EURUSD. A label becomes known 60 minutes after" in intended_use(card)


def test_regimes_are_found_by_name_or_chosen() -> None:
    columns = ("rsi_14", "yang_zhang_24", "atr_percent_14", "adx_14", "relative_volume_24")
    assert regime_columns(columns) == {"volatility": "yang_zhang_24", "trend": "adx_14", "volume": "relative_volume_24"}
    assert regime_columns(("volatility_level_24_480", "atr_percent_14")) == {"volatility": "volatility_level_24_480"}
    assert regime_columns(columns, ["rsi_14"]) == {"rsi_14": "rsi_14"}
    with pytest.raises(ConfigurationError, match="'no_such'"):
        regime_columns(columns, ["no_such"])


def test_a_regime_that_is_no_feature_is_refused_before_anything_is_trained(settings) -> None:
    wrong = settings.model_copy(update={"card": settings.card.model_copy(update={"regimes": ("moon",)})})
    with pytest.raises(ConfigurationError, match="'moon', which is no feature"):
        train(make_dataset(300), settings=wrong, name="direction-H1", versions=VERSIONS)
    assert not list(settings.state_path.rglob("*.journal"))


def test_on_real_hours_nothing_is_found_that_is_not_there() -> None:
    frame = Timeframe.parse("H1")
    bars = eurusd().iloc[:2500]
    chosen = [{"component": "log_return", "window": window} for window in (1, 6, 24)]
    chosen += [{"component": "realised_volatility"}, {"component": "adx"}]
    features = compute_features(parse_feature_set({"name": "few", "feature": chosen}), bars, frame)
    dataset = assemble({"EURUSD": (features, compute_labels(load_label_set(), bars, frame))})
    refit = FamilyRefit("logistic", {})
    paths = path_distribution(dataset, refit)
    # Labels of a day overlap, and the five paths share them: an area far from one half would be a leak.
    assert paths.paths["auc"].between(0.4, 0.6).all()
    assert paths.summary.set_index("metric").loc["total_return", "bad"] < 0
    walk = walk_forward(dataset, refit, mean_block=24)
    assert (walk.predictions["known_until"] < walk.predictions["t0"]).all()
    assert walk.symbols["auc_low"][0] < 0.5 < walk.symbols["auc_high"][0] + 0.05
    late = dataset.take(np.arange(len(dataset) // 3, len(dataset)))
    early = dataset.take(np.arange(len(dataset) // 3))
    scored = walk.predictions.tail(len(late)).reset_index(drop=True)
    mine = late.take(np.arange(len(late) - len(scored), len(late)))
    regimes = regime_columns(dataset.columns)
    assert regimes == {"volatility": "realised_volatility_24", "trend": "adx_14"}
    slices = measure_slices(
        scored, holdout_slicings(early, mine, regimes, mean_block=24), base_rate=early.y.mean(), mean_block=24
    )
    assert slices["rows"].max() == len(scored)
    assert (slices["p_holm"].dropna() > 0.001).all()
    assert {"volatility", "trend", "hour"} < set(slices["slicing"])


def test_slices_of_several_symbols_and_of_rows_out_of_range_are_made() -> None:
    parts = {name: make_parts(400, seed=number) for number, name in enumerate(("EURUSD", "GBPUSD"))}
    dataset = assemble(parts)
    early, late = dataset.take(np.arange(600)), dataset.take(np.arange(600, 800))
    outside = np.zeros(200, dtype=bool)
    outside[:3] = True
    made = holdout_slicings(early, late, {"x": "f1"}, mean_block=1.0, outside=outside)
    assert [one.name for one in made] == ["x", "month", "hour", "symbol", "features"]
    assert made[3].parts == ("EURUSD", "GBPUSD")
    assert (made[4].part == "some out of range").sum() == 3


def test_intervals_of_calibration_are_wider_where_rows_share_their_outcome() -> None:
    generator = np.random.default_rng(0)
    said = np.repeat(generator.uniform(0.3, 0.7, 100), 12)
    happened = np.repeat(generator.uniform(size=100) < said[::12], 12)
    dependent = reliability_with_blocks(happened, said, np.arange(1200), mean_block=24)
    alone = reliability_table(happened, said)
    assert dependent["rows"].equals(alone["rows"])
    assert (dependent["high"] - dependent["low"]).mean() > 1.5 * (alone["high"] - alone["low"]).mean()


def test_ties_that_calibration_makes_are_broken_by_the_models_own_probability(card, trained, split) -> None:
    settings, _ = trained
    registry = Registry.open(settings)
    model = registry.load(registry.find("direction-H1"))
    flat = card.result.holdout.assign(probability=0.5)
    best, _, worst = explain_decisions(model, flat, split[1].X, split[0].X)
    fit = np.where(flat["y"] == 1, flat["raw"], 1 - flat["raw"])
    assert best.row["raw"] == flat["raw"].to_numpy()[np.argmax(fit)]
    assert worst.row["raw"] == flat["raw"].to_numpy()[np.argmin(fit)]
