"""Scalers: scikit-learn as the oracle, fitted on training rows only, the same numbers when read back with a model."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.bundle import Bundle
from tapeline.models.column_map import KINDS, ColumnMap
from tapeline.models.estimator import build_estimator
from tapeline.models.registry import Registry
from tapeline.models.scaling import Scaler
from tapeline.models.training import train
from tests.models.conftest import prepare
from tests.models.synthetic import VERSIONS, make_dataset, make_settings


@pytest.fixture
def rows() -> np.ndarray:
    generator = np.random.default_rng(5)
    table = np.column_stack(
        [generator.standard_t(2, 900) * 50, generator.integers(0, 6, 900), np.full(900, 0.1), generator.random(900)]
    )
    table[generator.random(900) < 0.1, 3] = np.nan
    return table


@pytest.mark.parametrize(
    ("kind", "peer"), [("standard", StandardScaler), ("robust", RobustScaler), ("min_max", MinMaxScaler)]
)
def test_affine_scalers_equal_those_of_scikit_learn(kind, peer, rows) -> None:
    train, test = rows[:600], rows[600:] * 3
    np.testing.assert_allclose(
        Scaler(kind).fit(train).transform(test), peer().fit(train).transform(test), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("quantiles", [50, 5000])
def test_quantiles_equal_those_of_scikit_learn(quantiles, rows) -> None:
    train, test = rows[:600, [0]], rows[600:, [0]] * 2
    peer = QuantileTransformer(n_quantiles=min(quantiles, 600), subsample=None).fit(train)
    scaler = Scaler("quantile", quantiles=quantiles).fit(train)
    np.testing.assert_allclose(scaler.transform(test), peer.transform(test), atol=1e-6)
    ties = rows[:600, [1]]
    tied = Scaler("quantile", quantiles=5000).fit(ties).transform(ties)
    np.testing.assert_allclose(tied.ravel(), (rankdata(ties) - 1) / 599, atol=1e-6)


def test_rank_gauss_is_the_normal_quantile_of_the_rank(rows) -> None:
    train = rows[:600]
    found = Scaler("rank_gauss").fit_transform(train)
    for column in (0, 1):
        told = norm.ppf((rankdata(train[:, column]) - 0.5) / 600)
        np.testing.assert_allclose(found[:, column], told, atol=1e-6)
    known = ~np.isnan(train[:, 3])
    told = norm.ppf((rankdata(train[known, 3]) - 0.5) / known.sum())
    np.testing.assert_allclose(found[known, 3], told, atol=1e-6)
    many = np.random.default_rng(0).standard_t(2, (20_000, 1))
    mapped = Scaler("rank_gauss", quantiles=500).fit_transform(many)
    assert abs(mapped.mean()) < 0.01
    assert mapped.std() == pytest.approx(1, abs=0.02)
    ends = Scaler("rank_gauss").fit(many).transform([[1e9], [-1e9]])
    np.testing.assert_allclose(np.abs(ends), norm.ppf(1 - 0.5 / 20_000), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_fitted_depends_on_training_rows_only_and_survives_json(kind, rows) -> None:
    scaler = clone(Scaler(kind)).fit(rows[:500])
    other = Scaler(kind).fit(np.vstack([rows[:500], rows[500:] * 100])[:500])
    assert scaler.map_ == other.map_
    again = ColumnMap.from_json(json.loads(json.dumps(scaler.map_.to_json(), allow_nan=False)))
    assert again == scaler.map_
    np.testing.assert_array_equal(again.apply(rows), scaler.transform(rows))
    assert np.isnan(scaler.transform(rows)[:, 3]).sum() == np.isnan(rows[:, 3]).sum()
    assert np.isfinite(scaler.transform(rows)[:, :3]).all()
    assert np.isfinite(Scaler(kind).fit(np.full((3, 1), np.nan)).transform([[2.0]])).all()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"kind": "odd", "centers": [1], "scales": [1]},
        {"kind": "standard"},
        {"kind": "standard", "centers": [1], "scales": [0]},
        {"kind": "standard", "centers": [1, 2], "scales": [1]},
        {"kind": "standard", "centers": [float("nan")], "scales": [1]},
        {"kind": "quantile", "centers": [1], "scales": [1]},
        {"kind": "quantile", "knots": [[2, 1]], "shares": [[0, 1]]},
        {"kind": "quantile", "knots": [[1, 2]], "shares": [[0, 2]]},
        {"kind": "quantile", "knots": [[]], "shares": [[]]},
        {"kind": "standard", "centers": "ab", "scales": [1]},
        [],
    ],
)
def test_a_file_that_is_no_scaler_is_refused(content) -> None:
    with pytest.raises(DataError):
        ColumnMap.from_json(content)


def test_wrong_rows_and_arguments_are_refused(rows) -> None:
    with pytest.raises(ConfigurationError, match="no scaler is called"):
        Scaler("log").fit(rows)
    with pytest.raises(ConfigurationError, match="below 2"):
        Scaler("quantile", quantiles=1).fit(rows)
    with pytest.raises(DataError, match="infinite"):
        Scaler().fit([[np.inf]])
    with pytest.raises(DataError, match="knows 4 columns"):
        Scaler().fit(rows).transform(rows[:, :2])


def test_a_pipeline_fits_its_scaler_inside_the_fold(rows) -> None:
    target = (rows[:, 0] > 0).astype(int)
    pipeline = build_estimator("logistic", scaling="rank_gauss").fit(rows[:500], target[:500])
    kept = pipeline.named_steps["columns"].kept_
    filled = pipeline.named_steps["missing"].transform(rows[:500][:, kept].astype(np.float32))
    assert pipeline.named_steps["scale"].map_ == Scaler("rank_gauss").fit(filled).map_
    assert "scale" not in build_estimator("lightgbm").named_steps
    assert build_estimator("logistic").named_steps["scale"].kind == "standard"


def test_a_model_keeps_its_scaler_and_serves_with_it(database, tmp_path, monkeypatch) -> None:
    import mlflow

    settings = prepare(database, tmp_path)
    settings = settings.model_copy(update={"training": make_settings(tmp_path, scaling="rank_gauss").training})
    dataset = make_dataset(1200, signal=0.6)
    result = train(dataset, settings=settings, name="scaled", versions=VERSIONS)
    registry = Registry.open(settings)
    model = registry.load(registry.find("scaled", result.model_version))
    scaling = model.bundle.scaling
    assert scaling.kind == "rank_gauss"
    development = dataset.X[: result.rows["development"], model.bundle.kept]
    assert scaling == Scaler("rank_gauss").fit(development).map_
    holdout = dataset.X[-result.rows["holdout"] :]
    np.testing.assert_allclose(model.probability(holdout), result.holdout["probability"], atol=1e-12)
    direct = model.booster.predict(scaling.apply(holdout[:, model.bundle.kept]), num_threads=1)
    np.testing.assert_array_equal(model.raw_probability(holdout), direct)
    # Not set_tracking_uri: that would also set the environment of every later test.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_uri)
    served = mlflow.pyfunc.load_model(result.model_uri).predict(
        pd.DataFrame(holdout, columns=dataset.columns).astype(float)
    )
    np.testing.assert_allclose(served["probability"], result.holdout["probability"], atol=1e-9)
    other = {**json.loads(model.bundle.to_bytes()), "scaling": Scaler().fit([[1.0], [2.0]]).map_.to_json()}
    with pytest.raises(DataError, match="scales 1 columns"):
        Bundle.from_bytes(json.dumps(other).encode())
