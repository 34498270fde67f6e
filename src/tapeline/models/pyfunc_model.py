"""The file that MLflow stores with a model and runs to load it: trees, calibration and nothing else.

It stands alone on purpose: a service that has mlflow, lightgbm, numpy and pandas can serve a model without Tapeline.
A model of another format than LightGBM's is read by Tapeline itself, which then must be installed there.
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
    """Calibrated probability of a rise, from a JSON bundle and the model file that it names."""

    def load_context(self, context: Any) -> None:
        """Read all files; refuse a model that is not the one the bundle names."""
        path = Path(context.artifacts["bundle"])
        content = path.read_bytes()
        self.bundle = json.loads(content)
        self.model = None
        if self.bundle.get("model_format", "lightgbm") != "lightgbm":
            from tapeline.models.bundle import load_model

            self.model = load_model(path.parent, bundle_sha256=hashlib.sha256(content).hexdigest())
            return
        import lightgbm

        trees = Path(context.artifacts["booster"]).read_bytes()
        if hashlib.sha256(trees).hexdigest() != self.bundle["booster_sha256"]:
            raise ValueError("booster.txt is not the file that bundle.json names: it was changed after training")
        self.booster = lightgbm.Booster(model_str=trees.decode())

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score rows that hold the model's feature columns."""
        probability = self._probability(model_input)
        threshold = self.bundle["threshold"]
        side = (probability > threshold).astype(np.int32) - (probability < 1 - threshold).astype(np.int32)
        return pd.DataFrame(
            {"probability": probability, "side": side, "confidence": np.maximum(probability, 1 - probability)},
            index=model_input.index,
        )

    def _probability(self, frame: pd.DataFrame) -> np.ndarray:
        if self.model is not None:
            rows = frame[self.bundle["columns"]].to_numpy(dtype=np.float32)
            return np.asarray(self.model.probability(np.ascontiguousarray(rows)))
        columns = [self.bundle["columns"][position] for position in self.bundle["kept"]]
        rows = self._scale(frame[columns].to_numpy(dtype=np.float32))
        return self._calibrate(np.asarray(self.booster.predict(rows, num_threads=1)))

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
