"""The file that MLflow stores with a model and runs to load it: trees, calibration and nothing else.

It stands alone on purpose: a service that has mlflow, lightgbm, numpy and pandas can serve a model without Tapeline.
``predict`` takes the feature columns and gives ``probability`` (calibrated, of up), ``side`` and ``confidence``.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd


class DirectionModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """Calibrated probability of a rise, from LightGBM's text file and a JSON bundle."""

    def load_context(self, context: Any) -> None:
        """Read both files; refuse trees that are not the ones the bundle names."""
        import lightgbm

        self.bundle = json.loads(Path(context.artifacts["bundle"]).read_bytes())
        trees = Path(context.artifacts["booster"]).read_bytes()
        if hashlib.sha256(trees).hexdigest() != self.bundle["booster_sha256"]:
            raise ValueError("booster.txt is not the file that bundle.json names: it was changed after training")
        self.booster = lightgbm.Booster(model_str=trees.decode())

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score rows that hold the model's feature columns."""
        columns = [self.bundle["columns"][position] for position in self.bundle["kept"]]
        rows = self._scale(model_input[columns].to_numpy(dtype=np.float32))
        raw = np.asarray(self.booster.predict(rows, num_threads=1))
        probability = self._calibrate(raw)
        threshold = self.bundle["threshold"]
        side = (probability > threshold).astype(np.int32) - (probability < 1 - threshold).astype(np.int32)
        return pd.DataFrame(
            {"probability": probability, "side": side, "confidence": np.maximum(probability, 1 - probability)},
            index=model_input.index,
        )

    def _scale(self, rows: np.ndarray) -> np.ndarray:
        scaling = self.bundle.get("scaling")
        if scaling is None:
            return rows
        values = rows.astype(np.float64)
        if "knots" not in scaling:
            largest = float(np.finfo(np.float32).max)
            scaled = (values - np.array(scaling["centers"])) / np.array(scaling["scales"])
            return np.clip(scaled, -largest, largest).astype(np.float32)
        pairs = zip(values.T, scaling["knots"], scaling["shares"], strict=True)
        shares = np.column_stack([np.interp(column, knots, known) for column, knots, known in pairs])
        shares[np.isnan(values)] = np.nan
        if scaling["kind"] == "rank_gauss":
            from scipy.special import ndtri

            shares = ndtri(shares)
        return shares.astype(np.float32)

    def _calibrate(self, raw: np.ndarray) -> np.ndarray:
        calibration = self.bundle["calibration"]
        if calibration["kind"] == "isotonic":
            return np.interp(raw, calibration["x"], calibration["y"])
        clipped = np.clip(raw, 1e-6, 1 - 1e-6)
        log_odds = np.log(clipped / (1 - clipped))
        return np.asarray(1 / (1 + np.exp(-(calibration["a"] * log_odds + calibration["b"]))))


mlflow.models.set_model(DirectionModel())
