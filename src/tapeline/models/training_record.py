"""What a training run leaves in MLflow beside its model and its trials."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path

from tapeline.evaluation.result import TrainingResult
from tapeline.models.promotion import LossDifference
from tapeline.models.tracking import TAG, Tracking
from tapeline.models.tuning import Tuning


def log_result(
    tracking: Tracking, run_id: str, result: TrainingResult, against_base: LossDifference, tuning: Tuning
) -> None:
    """Write a training's result to its run: parameters, metrics, tags, tables, pictures and the trials' returns.

    The returns of complete trials (``trial_returns.parquet``: index ``day``, a float32 column a trial) are what the
    probability of backtest overfitting was computed from, so that anybody can compute it again.
    """
    metrics: dict[str, float] = {
        "cv_log_loss": tuning.value,
        "holdout_skill": against_base.skill,
        "holdout_better_than_base_rate": against_base.better,
        "trials_total": result.trials_total,
        "holdout_looks": result.holdout_looks,
    }
    for row in result.metrics.to_dict("records"):
        metrics |= {
            f"holdout_{row['metric']}": float(row["value"]),
            f"majority_{row['metric']}": float(row["majority"]),
        }
        metrics |= {f"holdout_{row['metric']}_{side}": float(row[side]) for side in ("low", "high")}
    evidence = result.sharpe.iloc[0].to_dict()
    metrics |= {f"sharpe_{key}": float(value) for key, value in evidence.items() if math.isfinite(value)}
    luck = result.overfitting.iloc[0].to_dict()
    metrics |= {f"overfitting_{key}": float(value) for key, value in luck.items() if value is not None}
    parameters = {
        "family": result.family,
        **result.parameters,
        **{f"rows_{key}": value for key, value in result.rows.items()},
        **{f"{key}_version": value for key, value in asdict(result.versions).items()},
    }
    tags = {
        f"{TAG}model_version": result.model_version,
        f"{TAG}promoted": str(result.promoted).lower(),
        f"{TAG}reason": result.reason,
        f"{TAG}family_reason": result.family_reason[:4000],
        f"{TAG}booster_sha256": result.booster_sha256,
        f"{TAG}verdicts": " ".join(result.verdict_ids)[:4000],
    }
    tracking.log(run_id, parameters=parameters, metrics=metrics, tags=tags)
    with tempfile.TemporaryDirectory(prefix="tapeline-run-") as scratch:
        folder = Path(scratch)
        for frame in (
            "metrics",
            "trials",
            "importance",
            "reliability",
            "calibration",
            "cost_ladder",
            "dropped",
            "overfitting",
        ):
            getattr(result, frame).to_csv(folder / f"{frame}.csv", index=False)
        tuning.returns.to_parquet(folder / "trial_returns.parquet", compression="zstd")
        lineage = {
            "versions": asdict(result.versions),
            "verdicts": list(result.verdict_ids),
            "label": dict(result.label),
        }
        (folder / "lineage.json").write_text(json.dumps(lineage, indent=1, sort_keys=True, default=str))
        _save_plots(folder, result)
        tracking.log_folder(run_id, folder)


def _save_plots(folder: Path, result: TrainingResult) -> None:
    from tapeline.evaluation import plots

    pictures = {
        "equity": plots.equity(result.equity, result.random_band),
        "calibration": plots.reliability(result.reliability),
        "importance": plots.importance(result.importance),
    }
    for name, svg in pictures.items():
        (folder / f"{name}.svg").write_bytes(svg)
