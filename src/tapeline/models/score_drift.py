"""Drift of a model in use: of its scores, of their calibration and of its performance, against its own training.

Three questions of the rows that a model scored after its training:

- *score*: are the probabilities spread as those that the training gave out of sample?
- *calibration*: do they still mean what they say?
- *performance*: is the loss within what windows of the training's own rows would show?

Windows are judged by block bootstrap of the reference, because labels overlap; the streams are those of rows that do
not overlap, in the order in which their outcomes became known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.versions import digest_bytes
from tapeline.evaluation.metrics import CALIBRATION_BINS, equal_mass_bins
from tapeline.models.performance import log_losses, mean_block
from tapeline.models.promotion import MATERIAL, loss_difference
from tapeline.quality.block_bootstrap import block_length, draw_rows
from tapeline.quality.concept_drift import DriftDetector
from tapeline.quality.distribution import ALPHA, DistributionMonitor, Reference
from tapeline.quality.relation import separate_rows

Array = npt.NDArray[np.float64]

KINDS: Final = ("score", "calibration", "performance")
COLUMNS: Final = (
    "ts", "since", "kind", "column", "statistic", "value", "typical", "limit", "p_value", "before", "after", "alarm",
    "rows",
)  # fmt: skip
SMALLEST_WINDOW: Final = 100
"""Fewer unseen rows than this judge nothing."""
SMALLEST_REFERENCE: Final = 200
MAXIMUM_REFERENCE: Final = 10_000
REPEATS: Final = 999
SMALLEST_SHIFT: Final = 0.03
"""A calibration error or bias that has grown by less changes no decision, however sure it is."""
WORSE_SHARE: Final = 0.05
"""A model better than the base rate in fewer resamples than this is worse than knowing nothing."""
STREAMS: Final = (("calibration", "page_hinkley"), ("performance", "page_hinkley"), ("performance", "adwin"))
PRIMED: Final = 500
"""Rows of the reference that a detector sees before the first unseen one, so that it knows what was usual."""


def model_drift(
    reference: pd.DataFrame, unseen: pd.DataFrame, *, window: int = 500, alpha: float = ALPHA, seed: int = 0
) -> pd.DataFrame:
    """Hold what a model said since its training against what it said out of sample then; one symbol, one version.

    Parameters
    ----------
    reference:
        The training's own rows (``out_of_fold`` and ``holdout``), the newest 10,000 of them: ``known_at``, ``t_end``,
        ``y``, ``probability``.
    unseen:
        Rows whose outcomes the training could not know, with the same columns.
    window:
        The newest so many of them are judged; none below :data:`SMALLEST_WINDOW`.
    alpha:
        The chance that anything of a question is told where nothing has changed.

    Returns
    -------
    Columns :data:`COLUMNS`, a row a question and statistic:

    - kind ``score``: the distances of :class:`tapeline.quality.distribution.DistributionMonitor` for the probability;
    - kind ``calibration``: ``calibration_error`` (the reference's bins) and ``bias`` (mean of outcome less
      probability) of the window, and ``page_hinkley`` on outcome less probability;
    - kind ``performance``: ``log_loss`` and ``brier`` of the window against the band that windows of the reference
      show, ``base_rate`` (log loss less that of the reference's share of rises; ``p_value`` is the share of resamples
      in which the model is better), and ``page_hinkley`` and ``adwin`` on the log loss.

    ``ts`` is when the finding was known (of a detector's, the outcome at which it was told; a detector has a row only
    where it told something), ``since`` its first row. A row depends on nothing that became known after its ``ts``, so
    that the same rows give the same findings whenever they are asked for.

    Raises
    ------
    DataError
        The reference has fewer than 200 rows, or a column is absent.

    Notes
    -----
    The bands are of the single-step maximum over the statistics of a question (P. H. Westfall and S. S. Young,
    Resampling-Based Multiple Testing, 1993, p. 50), over circular blocks (H. R. Künsch, Annals of Statistics 17,
    1989). The detectors are those of :mod:`tapeline.quality.concept_drift` (E. S. Page, Biometrika 41, 1954; A. Bifet
    and R. Gavalda, SDM 2007).

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> def said(start, rows, turned):
    ...     at = pd.date_range(start, periods=rows, freq="1h", tz="UTC")
    ...     p = generator.uniform(0.3, 0.7, rows)
    ...     y = (generator.random(rows) < (1 - p if turned else p)).astype(int)
    ...     return pd.DataFrame({"known_at": at, "t_end": at + pd.Timedelta("59min"), "y": y, "probability": p})
    >>> found = model_drift(said("2017-01-02", 1500, False), said("2017-06-01", 500, True))
    >>> sorted(set(found.loc[found["alarm"], "kind"]))
    ['calibration', 'performance']
    """
    learnt = _rows(reference, "reference").tail(MAXIMUM_REFERENCE)
    later = _rows(unseen, "unseen rows")
    if len(learnt) < SMALLEST_REFERENCE:
        raise DataError(
            f"a reference of {len(learnt)} scored rows says too little", hint=f"{SMALLEST_REFERENCE} are needed"
        )
    recent = later.tail(window)
    parts: list[dict[str, Any]] = []
    if len(recent) >= SMALLEST_WINDOW:
        lead = {"ts": recent["t_end"].max(), "since": recent["known_at"].min(), "rows": len(recent)}
        parts += [{**lead, **row} for row in _scores(learnt, recent, alpha, seed)]
        parts += [{**lead, **row} for row in _bands(learnt, recent, alpha, seed)]
        parts.append({**lead, **_base_rate(learnt, recent, seed)})
    parts += list(_streams(learnt, later))
    table = pd.DataFrame(parts, columns=list(COLUMNS))
    numbers = ("value", "typical", "limit", "p_value", "before", "after")
    table = table.astype({**dict.fromkeys(numbers, "float64"), "alarm": "bool", "rows": "int64"})
    for name in ("ts", "since"):
        table[name] = pd.to_datetime(table[name], utc=True).dt.as_unit("ns")
    return table


def reference_version(reference: pd.DataFrame) -> str:
    """The content hash of the rows that :func:`model_drift` uses of a reference."""
    rows = _rows(reference, "reference").tail(MAXIMUM_REFERENCE)
    instants = [pd.DatetimeIndex(rows[name]).as_unit("ns").asi8.tobytes() for name in ("known_at", "t_end")]
    return digest_bytes(*instants, rows[["y", "probability"]].to_numpy(dtype=np.float64).tobytes())


def _scores(learnt: pd.DataFrame, recent: pd.DataFrame, alpha: float, seed: int) -> Iterator[dict[str, Any]]:
    def probabilities(rows: pd.DataFrame) -> pd.DataFrame:
        ordered = rows.drop_duplicates("known_at", keep="last").set_index("known_at").sort_index()
        return ordered[["probability"]]

    monitor = DistributionMonitor(Reference.freeze(probabilities(learnt)))
    monitor.update(probabilities(recent))
    report = monitor.report(alpha=alpha, seed=seed)
    for row in report[report["statistic"] != "missing"].to_dict("records"):
        named = {str(key): value for key, value in row.items() if key != "changed"}
        yield {**named, "kind": "score"}


def _bands(learnt: pd.DataFrame, recent: pd.DataFrame, alpha: float, seed: int) -> Iterator[dict[str, Any]]:
    """Window statistics against those of windows drawn of the reference in blocks."""
    edges = _edges(learnt["probability"].to_numpy(dtype=np.float64))
    old, new = _terms(learnt, edges), _terms(recent, edges)
    rows, window = len(learnt), len(recent)
    block = max(block_length(old[:, :3], window), min(int(np.ceil(2 * mean_block(learnt))), window, rows // 10))
    drawn = draw_rows(rows, window, max(block, 1), REPEATS, seed)
    null = np.array([_statistics(old[chosen]) for chosen in drawn])
    seen, expected = _statistics(new), _statistics(old)
    typical, spread = null.mean(axis=0), null.std(axis=0)
    # The reference is a sample as well: the variance of a difference is the sum of both.
    spread = np.maximum(spread, 1e-12) * np.sqrt(1 + window / rows)
    away = (null - null.mean(axis=0)) / np.maximum(null.std(axis=0), 1e-12)
    for kind, names in (
        ("calibration", (("calibration_error", 2, False), ("bias", 3, True))),
        ("performance", (("log_loss", 0, False), ("brier", 1, False))),
    ):
        places = [place for _, place, _ in names]
        sides = np.column_stack([np.abs(away[:, place]) if both else away[:, place] for _, place, both in names])
        highest = np.sort(sides.max(axis=1))
        critical = float(np.quantile(highest, 1 - alpha, method="higher"))
        for (name, place, both), _ in zip(names, places, strict=True):
            score = (seen[place] - typical[place]) / spread[place]
            score = abs(score) if both else score
            p_value = float((1 + (highest >= score).sum()) / (1 + len(highest)))
            grown = abs(seen[place] - expected[place]) if both else seen[place] - typical[place]
            matters = grown >= (SMALLEST_SHIFT if kind == "calibration" else MATERIAL)
            yield {
                "kind": kind, "column": "probability", "statistic": name, "value": float(seen[place]),
                "typical": float(typical[place]), "limit": float(typical[place] + critical * spread[place]),
                "p_value": p_value, "before": float(expected[place]), "after": float(seen[place]),
                "alarm": bool(p_value <= alpha and matters),
            }  # fmt: skip


def _base_rate(learnt: pd.DataFrame, recent: pd.DataFrame, seed: int) -> dict[str, Any]:
    rate = float(np.clip(learnt["y"].mean(), 0.01, 0.99))
    pair = loss_difference(
        recent["y"],
        recent["probability"],
        np.full(len(recent), rate),
        pd.DatetimeIndex(recent["known_at"]).asi8,
        mean_block=mean_block(recent),
        seed=seed,
    )
    worse = pair.candidate - pair.incumbent
    return {
        "kind": "performance", "column": "probability", "statistic": "base_rate", "value": worse, "typical": 0.0,
        "limit": MATERIAL, "p_value": pair.better, "before": pair.incumbent, "after": pair.candidate,
        "alarm": bool(pair.better <= WORSE_SHARE and worse > MATERIAL),
    }  # fmt: skip


def _streams(learnt: pd.DataFrame, later: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Detectors fed with rows that do not overlap; what they tell of the reference alone is no news."""
    usual, new = _separate(learnt).tail(PRIMED), _separate(later)
    if new.empty or len(usual) < SMALLEST_WINDOW:
        return
    rows = pd.concat([usual, new], ignore_index=True)
    y, p = rows["y"].to_numpy(dtype=np.float64), rows["probability"].to_numpy(dtype=np.float64)
    streams = {"calibration": ("residual", y - p), "performance": ("log_loss", log_losses(y, p))}
    for kind, name in STREAMS:
        column, values = streams[kind]
        detector = DriftDetector(name)
        for place, value in enumerate(values):
            if detector.update(float(value)) != "drift" or place < len(usual):
                continue
            found = detector.evidence
            if found is None or (kind == "performance" and found.after <= found.before):
                continue  # a loss that falls is no reason to worry
            yield {
                "ts": rows["t_end"].iloc[place], "since": rows["known_at"].iloc[found.since], "kind": kind,
                "column": column, "statistic": name, "value": found.after - found.before, "typical": np.nan,
                "limit": np.nan, "p_value": np.nan, "before": found.before, "after": found.after, "alarm": True,
                "rows": found.rows_before + found.rows_after,
            }  # fmt: skip


def _edges(probability: Array) -> Array:
    """The reference's calibration bins by their upper bounds, the last without."""
    group = equal_mass_bins(probability, CALIBRATION_BINS)
    tops = np.array([probability[group == number].max() for number in range(group.max() + 1)])
    return tops[:-1]


def _terms(rows: pd.DataFrame, edges: Array) -> Array:
    """A line a row: its log loss, squared error, outcome less probability, and its bin."""
    y, p = rows["y"].to_numpy(dtype=np.float64), rows["probability"].to_numpy(dtype=np.float64)
    return np.column_stack([log_losses(y, p), (y - p) ** 2, y - p, np.searchsorted(edges, p)])


def _statistics(terms: Array) -> Array:
    gaps = np.abs(np.bincount(terms[:, 3].astype(np.intp), terms[:, 2])).sum() / len(terms)
    return np.array([terms[:, 0].mean(), terms[:, 1].mean(), gaps, terms[:, 2].mean()])


def _separate(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values("known_at", kind="stable")
    starts, ends = (pd.DatetimeIndex(ordered[name]).as_unit("ns").asi8 for name in ("known_at", "t_end"))
    return ordered.iloc[separate_rows(starts, ends)].sort_values("t_end", kind="stable")


def _rows(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    absent = {"known_at", "t_end", "y", "probability"} - set(frame.columns)
    if absent:
        raise DataError(f"the {name} lack the columns {sorted(absent)}")
    p = frame["probability"].to_numpy(dtype=np.float64)
    if not (np.isfinite(p) & (p >= 0) & (p <= 1)).all():
        raise DataError(f"the {name} hold a probability that is not from 0 to 1")
    return frame.sort_values(["t_end", "known_at"], kind="stable", ignore_index=True)
