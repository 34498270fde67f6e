"""Is the model engine honest? Worlds whose truth is known, from bars to labels, search, calibration, fit and report.

In each world the right answer follows from how its bars were made: a signal of known strength, nothing at all, a
target that was shuffled, the future put among the features, one event told many times. A broken link anywhere between
the bars and the report gives another answer.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from tapeline import cli
from tapeline.core.audit import audit, load_user_component
from tapeline.core.settings import Settings
from tapeline.core.timeframe import Timeframe
from tapeline.evaluation.metrics import auc
from tapeline.evaluation.result import TrainingResult, Versions
from tapeline.labels.consistency import revealing_features
from tapeline.labels.label_set import compute, parse_label_set
from tapeline.models.dataset import Dataset, assemble
from tapeline.models.estimator import build_estimator
from tapeline.models.out_of_fold import inner_folds, out_of_fold
from tapeline.models.pipeline import WeightedPipeline
from tapeline.models.registry import Registry
from tapeline.models.search import plan_of
from tapeline.models.selection import MinimumRedundancy
from tapeline.models.training import fit_model, train
from tapeline.models.trial import FoldModels
from tapeline.models.validation import PurgedKFold, time_holdout

Array = npt.NDArray[np.float64]

REPOSITORY = Path(__file__).parents[2]
H1 = Timeframe.parse("H1")
VERSIONS = Versions(feature_set="honesty@1", label="honesty@1", data="d1")
NAME = "direction-H1"
NEXT_BAR = {"name": "next", "component": "future_return", "horizon": 1}
BARRIERS = {"name": "barriers", "component": "triple_barrier", "horizon": 12, "volatility_window": 12}
FOREST = {"family": "extra_trees", "trials": 1, "folds": 3, "threads": 2}
SIGNAL = 0.5
"""The correlation of the planted feature with the next bar's return."""


# --- worlds -----------------------------------------------------------------------------------------------------------


def market(returns: Array) -> pd.DataFrame:
    """Hourly bars whose log returns these are; each opens where the one before it closed."""
    ts = pd.date_range("2017-01-02", periods=returns.size, freq="1h", tz="UTC", name="ts").as_unit("ns")
    close = 100 * np.exp(np.cumsum(returns))
    opened = np.r_[100.0, close[:-1]]
    wick = 1 + 1e-3 * np.random.default_rng(returns.size).uniform(size=(2, returns.size))
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * wick[0],
            "low": np.minimum(opened, close) / wick[1],
            "close": close,
            "volume": 1.0,
            "close_ts": H1.closes(ts),
        },
        index=ts,
    )


def rows_of(columns: Array, bars: pd.DataFrame, label: Mapping[str, Any], *, shuffle: int | None = None) -> Dataset:
    """Features, known at their bar's close, and the labels of the bars; ``shuffle`` deals the outcomes out anew."""
    names = [f"f{number}" for number in range(columns.shape[1])]
    features = pd.DataFrame(columns.astype(np.float32), index=bars.index, columns=names)
    labels = compute(parse_label_set(label), bars, H1)
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(labels))
        labels[["value", "outcome"]] = labels[["value", "outcome"]].to_numpy()[order]
    return assemble({"EURUSD": (features.assign(known_at=bars["close_ts"]), labels)})


def planted(seed: int, rows: int = 3000, *, shuffle: int | None = None) -> Dataset:
    """The next return is ``SIGNAL * f0 + sqrt(1 - SIGNAL ** 2) * noise``; four more columns are noise."""
    generator = np.random.default_rng(seed)
    columns = generator.standard_normal((rows, 5))
    noise = generator.standard_normal(rows)
    returns = np.r_[0.0, (SIGNAL * columns[:, 0] + math.sqrt(1 - SIGNAL**2) * noise)[:-1]]
    return rows_of(columns, market(0.004 * returns), NEXT_BAR, shuffle=shuffle)


def noise(seed: int, rows: int = 1200) -> Dataset:
    """A random walk; no column has to do with it, and no two labels overlap."""
    generator = np.random.default_rng([1, seed])
    return rows_of(generator.standard_normal((rows, 6)), market(0.004 * generator.standard_normal(rows)), NEXT_BAR)


def trap(seed: int, rows: int = 1200) -> Dataset:
    """A random walk whose labels overlap, under the triple barrier; the columns are slow: they tell what time it is."""
    generator = np.random.default_rng([2, seed])
    slow = np.cumsum(generator.standard_normal((rows, 4)), axis=0)
    clock = np.arange(rows)[:, None] / 40.0
    columns = np.hstack([slow, np.sin(clock), np.cos(clock)])
    return rows_of(columns, market(0.004 * generator.standard_normal(rows)), BARRIERS)


WORLDS: Mapping[str, Callable[[int], Dataset]] = {
    "planted": planted,
    "noise": noise,
    "trap": trap,
    "permuted": lambda seed: planted(seed, 1200, shuffle=seed),
}


# --- the engine -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A training and where it was stored."""

    settings: Settings
    dataset: Dataset
    result: TrainingResult


def run(database: Path, root: Path, world: str, family: str, seed: int) -> Run:
    """Train on a world in a project folder of its own."""
    training: dict[str, Any] = {"family": family, "trials": 2, "folds": 3, "threads": 1, "holdout": 0.33}
    settings = Settings(root=root, training=training, card={"write": False})  # type: ignore[arg-type]
    settings.mlflow_path.mkdir(parents=True)
    shutil.copy(database, settings.mlflow_path / "mlflow.db")
    dataset = WORLDS[world](seed)
    return Run(settings, dataset, train(dataset, settings=settings, name=NAME, versions=VERSIONS))


Engine = Callable[[str, str, int], Run]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty tracking database: making one takes longer than a training."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def engine(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """``(world, family, seed)`` to what training made of it, each once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield cache(lambda *key: run(database, tmp_path_factory.mktemp("run"), *key))  # type: ignore[misc]


def without_skill(y: npt.NDArray[Any], independent: float | None = None) -> float:
    """The standard error of the area under the curve of a score without skill (Mann and Whitney 1947).

    ``independent`` is how many of the rows are: of labels that overlap, the sum of their average uniqueness. A slow
    column says of neighbours the same, so nothing but the labels divides their number.
    """
    rows = len(y) if independent is None else independent
    share = float(np.mean(y))
    return math.sqrt((rows + 1) / (12 * rows**2 * share * (1 - share)))


# --- a planted signal -------------------------------------------------------------------------------------------------


def limits() -> tuple[float, float]:
    """The area under the curve and the log loss of the best possible model of the planted world.

    Let x be the feature, z the standardised next return, s = SIGNAL their correlation; a rise is z > 0. The best score
    is x. Of two rows, one that rose and one that did not, x ranks the pair rightly where u = (x1 - x0) / sqrt(2),
    z1 and -z0 are all above 0: three normal variables with correlations s / sqrt(2), s / sqrt(2), 0. The chance is
    1/8 + (arcsin a + arcsin a + arcsin 0) / (4 pi) with a = s / sqrt(2) (Sheppard 1899), and that of the condition
    z1 > 0 > z0 is 1/4, so AUC = 1/2 + (2 / pi) arcsin(s / sqrt(2)); s = 1 gives 1, s = 0 gives 1/2.

    Given x a rise has the chance Phi(s x / sqrt(1 - s^2)); the least log loss is the mean of its entropy over x.
    """
    area = 0.5 + 2 / math.pi * math.asin(SIGNAL / math.sqrt(2))
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    chance = best_probability(points)
    entropy = -(chance * np.log(chance) + (1 - chance) * np.log(1 - chance))
    return area, float(entropy @ weights / weights.sum())


def best_probability(x: Array) -> Array:
    """Phi(s x / sqrt(1 - s^2))."""
    slope = SIGNAL / math.sqrt(1 - SIGNAL**2)
    return np.array([0.5 * math.erfc(-slope * value / math.sqrt(2)) for value in np.asarray(x, dtype=np.float64)])


@pytest.mark.parametrize("family", ["lightgbm", "logistic"])
def test_a_planted_signal_is_recovered_near_the_best_that_is_possible(engine: Engine, family: str) -> None:
    made = engine("planted", family, 0)
    holdout, dataset = made.result.holdout, made.dataset
    near_the_limits(dataset.take(np.isin(dataset.ts, pd.DatetimeIndex(holdout["ts"]))), holdout["probability"])
    assert made.result.importance["feature"].iloc[0] == "f0"
    assert "with skill shown" in made.result.reason
    assert made.result.sharpe["deflated"].iloc[0] > 0.95


def test_trees_by_chance_recover_it_as_well(tmp_path: Path) -> None:
    dataset, settings = planted(0), Settings(root=tmp_path, training=FOREST)  # type: ignore[arg-type]
    development, holdout = time_holdout(dataset.t0, dataset.t_end, 0.33)
    fitted = fit_model(dataset.take(development), settings=settings, name=NAME, versions=VERSIONS, study="forest")
    near_the_limits(dataset.take(holdout), fitted.model.probability(dataset.X[holdout]))


def near_the_limits(holdout: Dataset, probability: Any) -> None:
    """Within three standard errors of the best area, and with most of what there is to know learnt."""
    y, said = holdout.y, np.asarray(probability)
    area, least = limits()
    # Hanley and McNeil 1982, Radiology 143, p. 29: of a score with skill.
    one, two, half = area / (2 - area), 2 * area**2 / (1 + area), len(y) / 2
    error = math.sqrt((area * (1 - area) + (half - 1) * (one + two - 2 * area**2)) / half**2)
    assert error < 0.017
    assert abs(auc(y, said) - area) < 3 * error
    # Row by row against the truth: nobody beats it, and all but a sixth of what there is to know was learnt.
    truth = losses(y, best_probability(holdout.X[:, 0]))
    assert abs(truth.mean() - least) < 3 * truth.std() / math.sqrt(len(y))
    regret = losses(y, said) - truth
    spread = 3 * regret.std() / math.sqrt(len(y))
    known = math.log(2) - least
    assert -spread < regret.mean() < known / 6 + spread < known / 2


def losses(y: npt.NDArray[Any], said: Array) -> Array:
    return -np.where(y == 1, np.log(said), np.log1p(-said))


# --- nothing at all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "family"),
    [
        ("noise", "lightgbm"),
        ("noise", "logistic"),
        ("trap", "lightgbm"),
        ("trap", "logistic"),
        ("permuted", "lightgbm"),
    ],
)
def test_where_there_is_nothing_nothing_is_found_and_nothing_claimed(engine: Engine, world: str, family: str) -> None:
    areas, errors = [], []
    for seed in (1, 2, 3):
        made = engine(world, family, seed)
        result, holdout = made.result, made.result.holdout
        areas.append(auc(holdout["y"], holdout["raw"]))
        independent = float(holdout["weight"].sum())
        errors.append(without_skill(holdout["y"].to_numpy(), independent))
        assert abs(areas[-1] - 0.5) < 3 * errors[-1]
        assert "with skill shown" not in result.reason
        sharpe = result.sharpe.iloc[0]
        assert sharpe["trials"] == len(result.trials) + 1 == 3
        assert sharpe["deflated"] < 0.95
        assert not sharpe["deflated"] > sharpe["probabilistic"]
        table = result.metrics.set_index("metric")
        assert table.loc["auc", "low"] <= 0.5
        # Calibrated on what it had not seen, a model that knows nothing says about the base rate.
        assert table.loc["log_loss", "value"] < table.loc["log_loss", "majority"] + 0.02
    mean_error = math.sqrt(np.square(errors).sum()) / len(errors)
    assert abs(np.mean(areas) - 0.5) < 3 * mean_error
    assert mean_error < (0.08 if world == "trap" else 0.02)


def concordance(y: npt.NDArray[Any], said: Array, folds: list[Any]) -> Array:
    """(pairs ranked rightly, pairs) of rows of one test block and different classes."""
    right = pairs = 0.0
    for _, test in folds:
        rose, fell = (said[test][y[test] == value] for value in (1, 0))
        apart = rose[:, None] - fell
        right += float((apart > 0).sum() + 0.5 * (apart == 0).sum())
        pairs += apart.size
    return np.array([right, pairs])


def pooled(counts: list[Array]) -> tuple[float, float]:
    """The share of pairs ranked rightly over all worlds, and its jackknife standard error."""
    table = np.array(counts)
    rest = table.sum(axis=0) - table
    without = rest[:, 0] / rest[:, 1]
    error = math.sqrt((len(table) - 1) / len(table) * np.square(without - without.mean()).sum())
    return float(table[:, 0].sum() / table[:, 1].sum()), error


def clock(seed: int) -> Dataset:
    """A random walk, labels of 24 bars at every bar, and columns from which any short stretch of time can be told."""
    rows = 504
    walk = market(0.002 * np.random.default_rng([3, seed]).standard_normal(rows))
    turns = 2 * np.pi * np.arange(rows) / rows
    columns = [wave(number * turns) for number in range(1, 8) for wave in (np.sin, np.cos)]
    return rows_of(np.column_stack(columns), walk, {**NEXT_BAR, "horizon": 24})


def test_overlapping_labels_teach_nothing_across_the_border_of_a_fold(tmp_path: Path) -> None:
    """Twenty blocks, each as long as a label: what is not purged, its neighbours give away."""
    honest, leaking = [], []
    for seed in range(14):
        dataset = clock(seed)
        training = {"family": "linear", "trials": 1, "folds": 20, "embargo": 0.02, "threads": 1}
        settings = Settings(root=tmp_path / str(seed), training=training)  # type: ignore[arg-type]
        fitted = fit_model(dataset, settings=settings, name=NAME, versions=VERSIONS, study="clock")
        folds = list(PurgedKFold(dataset.t0, dataset.t_end, folds=20, embargo=0.02).split(dataset.X))
        honest.append(concordance(dataset.y, fitted.out_of_fold, folds))
        everyone = np.arange(len(dataset))
        all_others = [(np.setdiff1d(everyone, test), test) for _, test in folds]
        seen = FoldModels(dataset, all_others, settings.training).out_of_fold("linear", {})
        leaking.append(concordance(dataset.y, seen, folds))
    area, error = pooled(honest)
    assert abs(area - 0.5) < 3 * error
    assert error < 0.03
    caught, spread = pooled(leaking)
    assert caught - 0.5 > 3 * spread  # the trap is one


# --- the future among the features ------------------------------------------------------------------------------------

COMPONENTS = """
from tapeline.core.registry import feature


@feature(lookback=1, outputs="tomorrow", reference="the label, shifted")
def tomorrow(bars):
    return bars["close"].shift(-1) / bars["close"] - 1


@feature(lookback=2, outputs="today", reference="its honest twin")
def today(bars):
    return bars["close"] / bars["close"].shift(1) - 1
"""


def test_the_label_shifted_is_refused_by_the_audit_and_seen_where_it_is_smuggled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(COMPONENTS)
    components = {component.name: component for component in load_user_component(str(file))}
    walk = market(0.004 * np.random.default_rng(5).standard_normal(1500))
    failed = {
        name: [finding.check for finding in audit(component, walk.iloc[:400], H1, cuts=60) if not finding.passed]
        for name, component in components.items()
    }
    assert failed == {"tomorrow": ["truncate", "perturb", "tail"], "today": []}

    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tapeline", "audit", str(file), "--bars", "200"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert end.value.code == 1
    assert {tuple(line) for line in said if line[-1:] == ["FAILED"]} == {
        ("tomorrow", check, "FAILED") for check in ("truncate", "perturb", "tail")
    }

    # As plain data no audit sees it. Then the report does: nothing in a market is so good.
    areas = {}
    for name, component in components.items():
        column = component.function(walk).to_numpy()[:, None]
        dataset = rows_of(column, walk, NEXT_BAR)
        settings = Settings(root=tmp_path / name, training={"family": "logistic", "trials": 1, "folds": 3})  # type: ignore[arg-type]
        fitted = fit_model(dataset, settings=settings, name=NAME, versions=VERSIONS, study=name)
        areas[name] = auc(dataset.y, fitted.out_of_fold)
        table = pd.DataFrame({name: dataset.X[:, 0], "y": dataset.outcome}, index=dataset.ts)
        assert list(revealing_features(table[[name]], table["y"]).index) == (["tomorrow"] if name == "tomorrow" else [])
    assert areas["tomorrow"] > 0.999
    assert abs(areas["today"] - 0.5) < 3 * without_skill(dataset.y)


# --- same seed, same bits ---------------------------------------------------------------------------------------------


def fingerprint(made: Run) -> dict[str, Any]:
    """Everything that two trainings on the same data must share, to the bit."""
    registry = Registry.open(made.settings)
    found = registry.find(NAME)
    assert found is not None
    bundle = registry.load(found).bundle
    tables = (made.result.holdout, made.result.metrics, made.result.trials, made.result.sharpe, made.result.importance)
    return {
        "model": bundle.booster_sha256,
        "bundle": hashlib.sha256(bundle.to_bytes()).hexdigest(),
        "calibration": bundle.calibration.to_json(),
        "study": made.result.study,
        "tables": [hashlib.sha256(table.to_csv().encode()).hexdigest() for table in tables],
        "forest": forest(made.settings.root),
    }


def forest(root: Path) -> list[str]:
    """A forest of two threads: hashes of its file and of what it says out of fold."""
    settings = Settings(root=root / "forest", training=FOREST)  # type: ignore[arg-type]
    fitted = fit_model(planted(0, 600), settings=settings, name=NAME, versions=VERSIONS, study="forest")
    return [fitted.files.sha256, hashlib.sha256(fitted.out_of_fold.tobytes()).hexdigest()]


def test_the_same_seed_gives_the_same_bits_in_another_process(engine: Engine, database: Path, tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from tests.e2e.test_honesty import fingerprint, run\n"
        "print(json.dumps(fingerprint(run(Path(sys.argv[1]), Path(sys.argv[2]), 'planted', 'lightgbm', 0))))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": str(REPOSITORY)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", code, str(database), str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    here = fingerprint(engine("planted", "lightgbm", 0))
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(json.dumps(here))


# --- what is learnt before the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "scaling"), [("logistic", "none"), ("logistic", "robust"), ("extra_trees", "quantile")]
)
def test_scaling_and_filling_know_the_training_rows_only(family: str, scaling: str) -> None:
    """What half the test rows hold changes nothing that is said of the other half; a scaler of all rows would."""
    dataset = noise(9, 400)
    folds = list(PurgedKFold(dataset.t0, dataset.t_end, folds=3).split(dataset.X))
    settings = Settings(training={"family": family, "scaling": scaling, "threads": 1})  # type: ignore[arg-type]
    parameters = {"n_estimators": 20} if family == "extra_trees" else {}
    dataset.X[::7, 2] = np.nan
    for number, (_, test) in enumerate(folds):
        changed, kept = test[::2], test[1::2]
        other = replace(dataset, X=dataset.X.copy())
        other.X[changed] = other.X[changed] * 1000 + 50
        said, again = (
            FoldModels(rows, folds, settings.training).predict(family, parameters, number) for rows in (dataset, other)
        )
        np.testing.assert_array_equal(said[np.isin(test, kept)], again[np.isin(test, kept)])


def test_columns_chosen_on_all_rows_flatter_themselves_and_those_chosen_inside_the_fold_do_not() -> None:
    """Noise, more columns than rows to tell them apart (Ambroise and McLachlan 2002, PNAS 99, p. 6562)."""
    generator = np.random.default_rng(11)
    dataset = rows_of(generator.standard_normal((500, 400)), market(0.004 * generator.standard_normal(500)), NEXT_BAR)
    splits = inner_folds(dataset.t0, dataset.t_end, len(dataset), folds=4)
    chooser = MinimumRedundancy(10, bins=2, significance=1)
    inside = [("inside", build_estimator("logistic", selector=chooser))]
    found = out_of_fold(inside, dataset.X, dataset.y, splits, t0=dataset.t0, t_end=dataset.t_end)
    chosen = chooser.fit(dataset.X, dataset.y).transform(dataset.X)
    before = out_of_fold([("before", build_estimator("logistic"))], chosen, dataset.y, splits)
    error = without_skill(dataset.y)
    assert abs(auc(dataset.y, found.probability[:, 0]) - 0.5) < 3 * error
    assert auc(dataset.y, before.probability[:, 0]) > 0.5 + 5 * error


# --- labels that overlap ----------------------------------------------------------------------------------------------


def told_often(seed: int) -> Dataset:
    """Events apart, of which three in four rise, and fifteen falls that are told 24 times each, all with f0 = 1.

    Beside them as many quiet events apart with f0 = -1, of which half rise.
    """
    generator = np.random.default_rng(seed)
    horizon, apart, clusters = 24, 240, 15
    rose = np.r_[generator.permuted(np.arange(apart) < 0.75 * apart), generator.permuted(np.arange(apart) < apart // 2)]
    kinds = generator.permutation(np.r_[np.arange(2 * apart), np.full(clusters, -1)])
    sign = np.where(kinds < 0, -1.0, np.where(rose[kinds], 1.0, -1.0))
    slots = kinds.size
    # Each event has a slot of three horizons to itself; the move is spread over its second and third.
    returns = np.zeros((slots, 3 * horizon))
    returns[:, horizon:] = 0.001 * sign[:, None]
    bars = market(returns.ravel() + 1e-6 * generator.standard_normal(returns.size))
    begin = np.arange(slots) * 3 * horizon + horizon
    events = np.concatenate([begin[kinds >= 0], *(first + np.arange(horizon) for first in begin[kinds < 0])])
    side = np.concatenate([np.where(kinds[kinds >= 0] < apart, 1.0, -1.0), np.ones(clusters * horizon)])
    events, side = events[np.argsort(events)], side[np.argsort(events)]
    return events_of(bars, events, side, horizon)


def events_of(bars: pd.DataFrame, events: npt.NDArray[np.intp], side: Array, horizon: int) -> Dataset:
    from tapeline.labels.weights import with_weights

    labels = compute(parse_label_set({**NEXT_BAR, "horizon": horizon}), bars, H1)
    labels = with_weights(labels.loc[labels.index.intersection(bars.index[events])], bars)
    noise_column = np.random.default_rng(0).standard_normal(side.size)
    features = pd.DataFrame({"f0": side, "f1": noise_column}, index=bars.index[events], dtype=np.float32)
    known = bars["close_ts"].loc[features.index]
    return assemble({"EURUSD": (features.assign(known_at=known), labels)})


@pytest.mark.parametrize("family", ["logistic", "lightgbm", "extra_trees"])
def test_an_event_that_is_told_many_times_counts_about_once(family: str, tmp_path: Path) -> None:
    dataset = told_often(0)
    told = dataset.weight < 0.5
    assert told.sum() == 15 * 24
    assert 15 < dataset.weight[told].sum() < 2.1 * 15  # 24 labels of 24 bars lie on 47 bars
    training = {"family": family, "trials": 1, "folds": 3, "threads": 1}
    said = {}
    for name, rows in {"weighted": dataset, "plain": replace(dataset, weight=np.ones(len(dataset)))}.items():
        settings = Settings(root=tmp_path / name, training=training)  # type: ignore[arg-type]
        plan = plan_of([family], trials=1, seed=0)
        fitted = fit_model(rows, settings=settings, name=NAME, versions=VERSIONS, study=name, plan=plan)
        row = np.array([[1.0, 0.0]], dtype=np.float32)
        said[name] = [fitted.model.raw_probability(row)[0], fitted.model.probability(row)[0]]
    assert min(said["weighted"]) > 0.52  # as the model says it, and calibrated
    assert max(said["plain"]) < 0.45


class Witness(LogisticRegression):
    """A logistic regression that writes down the label intervals that each of its fits was given."""

    seen: ClassVar[list[tuple[npt.NDArray[Any], Any, Any, Any]]] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, t0: Any = None, t_end: Any = None) -> Self:  # noqa: N803
        Witness.seen.append((np.asarray(X)[:, 0].astype(int), sample_weight, t0, t_end))
        super().fit(np.asarray(X)[:, 1:], y, sample_weight)
        return self

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        return np.asarray(super().predict_proba(np.asarray(X)[:, 1:]))


def test_every_fit_of_a_training_is_given_the_weights_and_label_intervals_of_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = trap(3, 300)
    dataset.X[:, 0] = np.arange(len(dataset))  # every row says which one it is
    Witness.seen.clear()
    monkeypatch.setattr(
        FoldModels, "estimator", lambda *_: WeightedPipeline([("model", Witness(max_iter=200))], kind="logistic")
    )
    monkeypatch.setattr("tapeline.models.training.write_model", lambda *_: pytest.skip.Exception)
    settings = Settings(root=tmp_path, training={"family": "logistic", "trials": 2, "folds": 3})  # type: ignore[arg-type]
    with pytest.raises(TypeError):  # there is no file for a witness, and the fits are over by then
        fit_model(dataset, settings=settings, name=NAME, versions=VERSIONS, study="witness")
    assert len(Witness.seen) == 2 * 3 + 3 + 1  # trials, out-of-fold probabilities, the final model
    for rows, weight, t0, t_end in Witness.seen:
        np.testing.assert_array_equal(weight, dataset.weight[rows])
        assert pd.DatetimeIndex(t0).equals(dataset.t0[rows])
        assert pd.DatetimeIndex(t_end).equals(dataset.t_end[rows])
    assert len(Witness.seen[-1][0]) == len(dataset)
