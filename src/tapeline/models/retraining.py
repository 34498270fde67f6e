"""Retraining: whether a model is to be trained again, and why; decided from what is known, by no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd

from tapeline.core.settings import LifecycleSettings
from tapeline.evaluation.result import Versions

Cause = Literal["manual", "first", "time", "drift", "performance"]

CAUSES: Final[dict[str, Cause]] = {
    "distribution": "drift",
    "concept": "drift",
    "score": "drift",
    "calibration": "performance",
    "performance": "performance",
}
"""What an alarm of each kind is a reason of: the data differ, or the model does worse."""


@dataclass(frozen=True)
class Alarm:
    """Something that has drifted.

    Parameters
    ----------
    kind:
        As in ``audit/drift``: ``distribution``, ``concept``, ``score``, ``calibration`` or ``performance``.
    text:
        What, in words.
    since:
        The first instant of the present unbroken run of checks that found it.
    checks:
        How many checks in a row found it.
    sequential:
        A sequential detector told it, which has waited for its own confirmation: it needs no further check.
    """

    kind: str
    text: str
    since: pd.Timestamp
    checks: int = 1
    sequential: bool = False


@dataclass(frozen=True)
class Attempt:
    """The newest training, whether its model was promoted or not.

    Parameters
    ----------
    model_version:
        In the registry.
    versions:
        What it was made from.
    known_until:
        The newest outcome that it knew.
    at:
        When it was run.
    """

    model_version: str
    versions: Versions
    known_until: pd.Timestamp
    at: pd.Timestamp


@dataclass(frozen=True)
class Situation:
    """All that the decision reads.

    Parameters
    ----------
    now:
        The instant of the decision.
    champion:
        The version that scores; None where none does.
    last:
        The newest training; None where none is known.
    versions:
        Of the data as they are now.
    new_rows:
        Labels that became known after the newest outcome of the last training; all labels where there was none.
    alarms:
        What has drifted.
    manual:
        A person asks for it.
    """

    now: pd.Timestamp
    champion: str | None
    last: Attempt | None
    versions: Versions
    new_rows: int
    alarms: Sequence[Alarm] = ()
    manual: bool = False


@dataclass(frozen=True)
class RetrainDecision:
    """Whether to train again.

    Parameters
    ----------
    retrain:
        Do it.
    reasons:
        What speaks for it, a sentence each; also where it must wait.
    waits:
        What it must wait for; empty where it need not, or nothing speaks for it.
    causes:
        The kinds of the reasons, sorted.
    """

    retrain: bool
    reasons: tuple[str, ...]
    waits: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()

    @property
    def text(self) -> str:
        """The decision in one sentence."""
        why = "; ".join(self.reasons) or "nothing speaks for it"
        if self.retrain:
            return f"train again: {why}"
        return f"not now ({'; '.join(self.waits)}): {why}" if self.waits else f"no training: {why}"


def decide_retraining(situation: Situation, rules: LifecycleSettings) -> RetrainDecision:
    """Decide whether to train again.

    1. Never on the versions of the last training: the same data, features and labels give the same model.
    2. A person's wish needs no other reason.
    3. Reasons: no champion; the last training is older than ``maximum_age_days``; an alarm of drift or of performance.
    4. An alarm is a reason once ``confirmations`` checks in a row have found it, and only where its run began after
       the newest outcome that the last training knew: what stood by then, that training has answered, and it is a
       reason again only after it went away and came back.
    5. A reason waits until ``minimum_days`` have passed since the last training and ``minimum_new_rows`` labels have
       become known.

    So whatever the data do, there is at most one training in ``minimum_days``, and a standing alarm leads to one.

    Examples
    --------
    >>> day = pd.Timedelta("1D")
    >>> now = pd.Timestamp("2017-03-01", tz="UTC")
    >>> old, new = Versions("f@1", "l@1", "d1"), Versions("f@1", "l@1", "d2")
    >>> last = Attempt("3", old, known_until=now - 20 * day, at=now - 20 * day)
    >>> rules = LifecycleSettings(maximum_age_days=30, minimum_days=7, minimum_new_rows=200)
    >>> decide_retraining(Situation(now, "3", last, new, new_rows=300), rules).text
    'no training: nothing speaks for it'
    >>> worse = Alarm("performance", "log loss 0.71", since=now - 2 * day, checks=2)
    >>> decide_retraining(Situation(now, "3", last, new, 300, [worse]), rules).text
    'train again: log loss 0.71, in 2 checks since 2017-02-27 00:00'
    >>> decide_retraining(Situation(now, "3", last, old, 300, [worse]), rules).waits
    ('version 3 was trained on these very data',)
    """
    last = situation.last
    found = list(_reasons(situation, rules))
    reasons = tuple(text for _, text in found)
    causes = tuple(sorted({cause for cause, _ in found}))
    if last is not None and last.versions == situation.versions:
        same = f"version {last.model_version} was trained on these very data"
        return RetrainDecision(False, reasons, (same,) if found else (), causes)
    if not found or situation.manual:
        return RetrainDecision(bool(found), reasons, (), causes)
    waits = _waits(situation, rules)
    return RetrainDecision(not waits, reasons, tuple(waits), causes)


def standing_run(checks: pd.DataFrame) -> tuple[pd.Timestamp, int] | None:
    """Since when, and for how many checks in a row, the newest checks have found something.

    Parameters
    ----------
    checks:
        ``ts`` and ``alarm``, in any order; several rows of one ``ts`` are one check, which found something where any
        of them did.

    Returns
    -------
    The first instant of the run and its length; None where the newest check found nothing, or there is none.

    Examples
    --------
    >>> at = pd.date_range("2017-01-02", periods=4, freq="1D", tz="UTC")
    >>> standing_run(pd.DataFrame({"ts": at, "alarm": [True, False, True, True]}))
    (Timestamp('2017-01-04 00:00:00+0000', tz='UTC'), 2)
    """
    by_check = checks.groupby("ts", sort=True)["alarm"].any()
    quiet = (~by_check.to_numpy(dtype=bool)).nonzero()[0]
    run = by_check.iloc[quiet[-1] + 1 if len(quiet) else 0 :]
    return None if run.empty else (pd.Timestamp(run.index[0]), len(run))


def _reasons(situation: Situation, rules: LifecycleSettings) -> list[tuple[Cause, str]]:
    found: list[tuple[Cause, str]] = []
    last = situation.last
    if situation.manual:
        found.append(("manual", "it was asked for"))
    if situation.champion is None:
        found.append(("first", "there is no champion"))
    if last is None and situation.champion is not None:
        found.append(("time", f"nothing is known of when version {situation.champion} was trained"))
    if last is not None:
        age = (situation.now - last.at) / pd.Timedelta(days=1)
        if age >= rules.maximum_age_days:
            found.append(("time", f"the last training is {age:.0f} days old, {rules.maximum_age_days:g} are allowed"))
    for alarm in situation.alarms:
        answered = last is not None and alarm.since <= last.known_until
        if (alarm.sequential or alarm.checks >= rules.confirmations) and not answered:
            often = f"in {alarm.checks} checks " if alarm.checks > 1 else ""
            found.append((CAUSES[alarm.kind], f"{alarm.text}, {often}since {alarm.since:%Y-%m-%d %H:%M}"))
    return found


def _waits(situation: Situation, rules: LifecycleSettings) -> list[str]:
    waits = []
    last = situation.last
    if last is not None:
        passed = (situation.now - last.at) / pd.Timedelta(days=1)
        if passed < rules.minimum_days:
            waits.append(f"{passed:.1f} days since the last training, {rules.minimum_days:g} must lie between two")
    if situation.new_rows < rules.minimum_new_rows:
        waits.append(f"{situation.new_rows} new labels, {rules.minimum_new_rows} are needed")
    return waits
