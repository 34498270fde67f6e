"""Evidence of a challenger that was scored beside the champion: both log losses on rows that neither could know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.models.promotion import BETTER_SHARE, COMPARABLE_ROWS, Decision, LossDifference, loss_difference

_SCORE_COLUMNS: Final = ("known_at", "probability", "model_version", "scored_at")
_LABEL_COLUMNS: Final = ("value", "t_end")


@dataclass(frozen=True)
class ShadowEvidence:
    """How a challenger did beside the champion.

    Parameters
    ----------
    champion, challenger:
        Versions in the registry.
    difference:
        Both mean log losses on the same rows, and in which share of block bootstrap samples the challenger's is less.
    first, last:
        The first and the last decision.
    late:
        Rows that both scored and that do not count, because a score was written after the outcome was known.
    """

    champion: str
    challenger: str
    difference: LossDifference
    first: pd.Timestamp
    last: pd.Timestamp
    late: int

    @property
    def decision(self) -> Decision:
        """Whether these rows speak for a promotion: at least 100, and less loss in 90 % of the samples."""
        found = self.difference
        span = f"{self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M}"
        told = (
            f"log loss {found.candidate:.4f} of version {self.challenger} against {found.incumbent:.4f} of champion "
            f"{self.champion} on the same {found.rows} rows, {span}, "
            f"better in {found.better:.0%} of resamples"
        )
        if found.rows < COMPARABLE_ROWS:
            return Decision(False, f"too few rows to decide, {COMPARABLE_ROWS} are needed: {told}")
        if found.better < BETTER_SHARE:
            return Decision(False, f"not shown better, {BETTER_SHARE:.0%} are needed: {told}")
        return Decision(True, f"better live: {told}")


def shadow_evidence(
    champion: pd.DataFrame, challenger: pd.DataFrame, labels: pd.DataFrame, *, live_only: bool = True, seed: int = 0
) -> ShadowEvidence:
    """Compare what champion and challenger said of the same rows with what then happened.

    Parameters
    ----------
    champion, challenger:
        Rows of ``scores/scores`` and ``scores/shadow``, each of one model version; index ``ts``. Several symbols are
        told apart by a column ``symbol``, which then all three frames have.
    labels:
        ``value`` and ``t_end``; rows without a value, or with 0, do not count.
    live_only:
        Count only rows that both scored before their outcome was known. A challenger was chosen with a look at its
        holdout, so that a score written later, such as one of a backfill, may be of rows that it was chosen by.
    seed:
        Of the bootstrap: blocks of decision times, twice as long as a label lasts, or the cube root of their number.

    Raises
    ------
    DataError
        A column is absent, a frame holds several versions, or no row counts.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=200, freq="1h", tz="UTC", name="ts")
    >>> known, end = ts + pd.Timedelta("1h"), ts + pd.Timedelta("2h")
    >>> labels = pd.DataFrame({"value": np.tile([1.0, -1.0], 100), "t_end": end}, index=ts)
    >>> said = pd.DataFrame({"known_at": known, "scored_at": known, "probability": 0.5, "model_version": "1"}, index=ts)
    >>> better = said.assign(model_version="2", probability=np.tile([0.6, 0.4], 100))
    >>> evidence = shadow_evidence(said, better, labels)
    >>> evidence.decision.promote, evidence.difference.rows
    (True, 200)
    """
    keys = ["ts", "symbol"] if "symbol" in labels.columns else ["ts"]
    first = _part(champion, _SCORE_COLUMNS, keys, "champion")
    second = _part(challenger, _SCORE_COLUMNS, keys, "challenger")
    known = _part(labels, _LABEL_COLUMNS, keys, "labels")
    known = known[known["value"].notna() & (known["value"] != 0)]
    both = first.merge(second, on=keys, suffixes=("", "_challenger"), validate="one_to_one")
    rows = both.merge(known, on=keys, validate="one_to_one")
    live = (rows["scored_at"] < rows["t_end"]) & (rows["scored_at_challenger"] < rows["t_end"])
    chosen = (rows[live] if live_only else rows).sort_values(["known_at", *keys], kind="stable")
    if chosen.empty:
        raise DataError(
            f"no row to compare on: the champion scored {len(first)}, the challenger {len(second)}, both and with a "
            f"known outcome {len(rows)}, of these {int(live.sum())} before it was known",
            hint="let the live scores run for a while with the challenger beside the champion",
        )
    t0, t_end = (pd.DatetimeIndex(chosen[name]).as_unit("ns").asi8 for name in ("known_at", "t_end"))
    instants = np.unique(t0)
    spans = np.searchsorted(instants, t_end, side="right") - np.searchsorted(instants, t0)
    difference = loss_difference(
        chosen["value"] > 0,
        chosen["probability_challenger"],
        chosen["probability"],
        t0,
        mean_block=max(2.0 * float(spans.mean()), instants.size ** (1 / 3), 1.0),
        seed=seed,
    )
    return ShadowEvidence(
        champion=str(chosen["model_version"].iloc[0]),
        challenger=str(chosen["model_version_challenger"].iloc[0]),
        difference=difference,
        first=chosen["known_at"].iloc[0],
        last=chosen["known_at"].iloc[-1],
        late=int((~live).sum()) if live_only else 0,
    )


def _part(frame: pd.DataFrame, columns: tuple[str, ...], keys: list[str], name: str) -> pd.DataFrame:
    found = frame.rename_axis(index="ts").reset_index() if "ts" not in frame.columns else frame
    absent = {*columns, *keys} - set(found.columns)
    if absent:
        raise DataError(f"the {name} frame lacks the columns {sorted(absent)}")
    versions = sorted(set(found["model_version"])) if "model_version" in columns else []
    if len(versions) > 1:
        raise DataError(f"the {name} frame holds the versions {versions[:5]}, not one")
    return found[[*keys, *columns]]
