"""Search spaces, one a family: each draws parameters from an Optuna trial, or from anything with its ``suggest_*``."""

from __future__ import annotations

from typing import Any


def draw_lightgbm(trial: Any) -> dict[str, Any]:
    """Shallow, slow, well regularised trees, as noisy targets need them."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 20, 160, step=20),
        "learning_rate": trial.suggest_float("learning_rate", 0.005, 0.1, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 16),
        "min_child_samples": trial.suggest_int("min_child_samples", 30, 400, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.1, 0.8),
        "subsample": trial.suggest_float("subsample", 0.4, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 1.0, 200.0, log=True),
    }


def draw_xgboost(trial: Any) -> dict[str, Any]:
    """The same for trees that grow level by level."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 20, 160, step=20),
        "learning_rate": trial.suggest_float("learning_rate", 0.005, 0.1, log=True),
        "max_depth": trial.suggest_int("max_depth", 1, 5),
        "min_child_weight": trial.suggest_float("min_child_weight", 5.0, 100.0, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.1, 0.8),
        "subsample": trial.suggest_float("subsample", 0.4, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 1.0, 200.0, log=True),
        "gamma": trial.suggest_float("gamma", 0.0, 5.0),
    }


def draw_random_forest(trial: Any) -> dict[str, Any]:
    """Deep or shallow trees on either draw of rows; leaves are small, for a tree draws few rows."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 50, 400, step=50),
        "max_depth": trial.suggest_int("max_depth", 2, 12),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2, 60, log=True),
        "max_features": trial.suggest_float("max_features", 0.1, 1.0),
        "draw": trial.suggest_categorical("draw", ["uniqueness", "sequential"]),
    }


def draw_extra_trees(trial: Any) -> dict[str, Any]:
    """Deep or shallow trees; leaves are large, for each tree sees all rows."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 50, 400, step=50),
        "max_depth": trial.suggest_int("max_depth", 2, 12),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, 200, log=True),
        "max_features": trial.suggest_float("max_features", 0.1, 1.0),
    }


def draw_logistic(trial: Any) -> dict[str, Any]:
    """The inverse of the penalty."""
    return {"C": trial.suggest_float("C", 1e-4, 100.0, log=True)}


def draw_ridge(trial: Any) -> dict[str, Any]:
    """The penalty, as a multiple of the sum of the weights."""
    return {"penalty": trial.suggest_float("penalty", 1e-4, 100.0, log=True)}


def draw_neural_net(trial: Any) -> dict[str, Any]:
    """Few small layers under a strong penalty: a net learns the noise of returns sooner than trees do."""
    return {
        "width": trial.suggest_int("width", 8, 64, log=True),
        "layers": trial.suggest_int("layers", 1, 3),
        "alpha": trial.suggest_float("alpha", 1e-2, 100.0, log=True),
        "epochs": trial.suggest_int("epochs", 10, 80, log=True),
        "learning_rate_init": trial.suggest_float("learning_rate_init", 3e-4, 1e-2, log=True),
    }


def draw_nothing(trial: Any) -> dict[str, Any]:
    """A family without parameters to search."""
    return {}
