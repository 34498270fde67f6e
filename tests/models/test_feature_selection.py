"""Selection on data whose truth is known: the planted columns win, noise promotes nothing, and champions are kept."""

from __future__ import annotations

import tomllib

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings
from tapeline.features.feature_set import load_feature_set, parse_feature_set
from tapeline.models.dataset import assemble
from tapeline.models.feature_selection import ALL, ChampionSet, SelectionResult, select_features
from tapeline.models.selection import MinimumRedundancy
from tapeline.models.selection_folds import BorutaShap
from tapeline.models.selection_store import SelectionStore
from tests.models.synthetic import make_dataset, make_parts

FEW = {
    "mrmr": MinimumRedundancy(5, shifts=39),
    "boruta": BorutaShap(rounds=10, folds=3, parameters={"n_estimators": 25, "learning_rate": 0.1}),
}
BEFORE = pd.Timestamp("2017-01-01", tz="UTC")


def run(dataset, **more) -> SelectionResult:
    return select_features(dataset, **{"selectors": FEW, "folds": 3, **more})


@pytest.fixture(scope="module")
def planted() -> SelectionResult:
    return run(make_dataset(2500, signal=0.8, columns=30))


def test_the_planted_column_is_chosen_and_beats_a_champion_without_it(planted: SelectionResult) -> None:
    assert "f0" in planted.columns
    assert len(planted.columns) <= 2
    assert planted.stability.loc[0, ["column", "share", "chosen"]].tolist() == ["f0", 1.0, True]
    contest = planted.contest.set_index("selector")
    assert set(contest.index) == {ALL, *FEW}
    assert contest.loc[planted.selector, "skill"] > 0.05
    dataset = make_dataset(2500, signal=0.8, columns=30)
    against = run(dataset, champion=ChampionSet(("f3", "f4"), BEFORE))
    assert against.promoted
    assert against.comparison.better == 1.0
    assert against.reason.startswith("better than the champion set")
    again = run(dataset, champion=ChampionSet(("f3", "f4"), BEFORE))
    assert again.reason == against.reason
    pd.testing.assert_frame_equal(again.contest, against.contest)


def test_a_permuted_target_promotes_nothing() -> None:
    dataset = make_dataset(1500, signal=0.8, columns=30)
    for seed in range(2):
        np.random.default_rng(seed).shuffle(dataset.y)
        result = run(dataset, champion=ChampionSet(("f3", "f4"), BEFORE))
        assert not result.promoted
        assert len(result.columns) <= 1


def test_an_equal_set_is_not_promoted_and_few_new_rows_decide_nothing() -> None:
    dataset = make_dataset(1500, signal=0.8, columns=6)
    same = run(dataset, champion=ChampionSet(("f0",), BEFORE))
    assert not same.promoted
    twin = make_dataset(1500, signal=0.8, columns=6)
    twin.X[:, 5] = twin.X[:, 0]
    equal = run(twin, champion=ChampionSet(("f0",) if "f0" not in run(twin).columns else ("f5",), BEFORE))
    assert not equal.promoted
    late = run(dataset, champion=ChampionSet(("f3",), dataset.t0[-50]))
    assert not late.promoted
    assert "only 49 rows were decided after both sets were chosen" in late.reason
    with pytest.raises(ConfigurationError, match="columns \\['gone'\\]"):
        run(dataset, champion=ChampionSet(("gone",), BEFORE))


def test_the_rows_of_the_comparison_decide_nothing_before_it() -> None:
    features, labels = make_parts(1500, signal=0.8, columns=8)
    changed = labels.copy()
    changed.loc[changed.index[1250:], "value"] *= -1
    one, other = run(assemble({"A": (features, labels)})), run(assemble({"A": (features, changed)}))
    assert one.columns == other.columns
    pd.testing.assert_frame_equal(one.contest, other.contest)
    assert one.comparison.candidate < other.comparison.candidate


def make_result(columns: tuple[str, ...], *, promoted: bool, until: str = "2018-01-01") -> SelectionResult:
    table = pd.DataFrame()
    reason, rows = 'better "because"', {"development": 1, "holdout": 1, "compared": 1}
    return SelectionResult(columns, "mrmr", promoted, reason, table, table, None, pd.Timestamp(until, tz="UTC"), rows)


def test_sets_are_kept_with_their_provenance(tmp_path) -> None:
    base = parse_feature_set({"name": "base", "feature": [{"component": c} for c in ("rsi", "macd", "log_return")]})
    store = SelectionStore(Settings(root=tmp_path), "direction-H1-EURUSD")
    assert store.champion() is None
    first = store.keep(make_result(("rsi_14",), promoted=False), base, provenance={"data": "d1"})
    assert first.champion is None
    assert load_feature_set(first.challenger).version == first.version
    second = store.keep(make_result((base.columns[1], "rsi_14"), promoted=True), base, provenance={"data": "d1"})
    chosen = load_feature_set(second.champion)
    assert set(chosen.columns) == {base.columns[1], "rsi_14"}
    assert chosen.version == second.version
    assert store.champion().selected_until == pd.Timestamp("2018-01-01", tz="UTC")
    provenance = tomllib.loads(second.champion.read_text())["provenance"]
    assert provenance["base"] == base.version
    assert (provenance["data"], provenance["selector"], provenance["promoted"]) == ("d1", "mrmr", True)
    before = {path.name: path.read_bytes() for path in store.folder.glob("*.*l*")}
    store.keep(make_result((base.columns[1], "rsi_14"), promoted=True), base, provenance={"data": "d1"})
    assert {path.name: path.read_bytes() for path in store.folder.glob("*.*l*")} == before
    third = store.keep(make_result(("log_return_1",), promoted=True), base, provenance={"data": "d2"})
    assert store.champion().columns == ("log_return_1",)
    assert store.history()["version"].tolist() == [first.version, second.version, third.version]
    store.restore()
    assert set(store.champion().columns) == {base.columns[1], "rsi_14"}
    nothing = store.keep(make_result((), promoted=False), base, provenance={"data": "d3"})
    assert (nothing.version, nothing.challenger) == ("", None)
    assert len(store.history()) == 4


def test_a_name_cannot_leave_the_folder_and_a_champion_needs_its_provenance(tmp_path) -> None:
    settings = Settings(root=tmp_path)
    for name in ("../x", "a/b", "..", ""):
        with pytest.raises(ConfigurationError, match="not valid"):
            SelectionStore(settings, name)
    store = SelectionStore(settings, "m")
    with pytest.raises(ConfigurationError, match="no former"):
        store.restore()
    store.folder.mkdir(parents=True)
    store.champion_path.write_text('name = "x"\n[[feature]]\ncomponent = "rsi"\n')
    with pytest.raises(ConfigurationError, match="selected_until"):
        store.champion()
