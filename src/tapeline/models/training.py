"""Training: from a dataset to a registered model, with one look at the holdout and every version written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.settings import Settings
from tapeline.evaluation.metrics import brier_score, expected_calibration_error, log_loss, reliability_table
from tapeline.evaluation.result import TrainingResult, Versions
from tapeline.models.assessment import Assessment, assess
from tapeline.models.bundle import Bundle, Model, make_model
from tapeline.models.calibration import Calibration, fit_calibration
from tapeline.models.card_store import keep_card
from tapeline.models.dataset import Dataset
from tapeline.models.explain import importance_table
from tapeline.models.ledger import MODEL_TAG, Ledger, read_ledger, record_fits, record_look
from tapeline.models.meta_learner import learn, record_traits
from tapeline.models.model_card import regime_columns
from tapeline.models.model_file import ModelFile, Preparation, write_model
from tapeline.models.promotion import Champion, Decision, LossDifference, decide, loss_difference
from tapeline.models.registry import SKILL_TAG, Registered, Registry
from tapeline.models.sampled_shap import contributions
from tapeline.models.search import Plan
from tapeline.models.tracking import TAG, Tracking, open_tracking
from tapeline.models.training_record import log_result
from tapeline.models.training_scores import keep_training_scores, training_scores
from tapeline.models.traits import PROBES, dataset_traits
from tapeline.models.trial import FoldModels, TrialRecord
from tapeline.models.trial_log import TrialLog
from tapeline.models.tuning import Progress, Tuning, plan_of_settings, study_name, tune
from tapeline.models.validation import PurgedKFold, time_holdout

__all__ = ["Progress", "TrainingResult", "Versions", "fit_model", "train"]

THRESHOLD: Final = 0.5


@dataclass(frozen=True)
class Fitted:
    """A model fitted on development rows, before anyone looked at the holdout.

    Parameters
    ----------
    model:
        Bundle and booster.
    files:
        The model in its own format, the same bytes for the same data, settings and seed.
    tuning:
        How its parameters were found.
    out_of_fold:
        Raw probability of each development row by the fold that was not trained on it.
    """

    model: Model
    files: ModelFile
    tuning: Tuning
    out_of_fold: npt.NDArray[np.float64]

    @property
    def booster_text(self) -> bytes:
        """The model's first file; of LightGBM the trees as text."""
        return self.files.content


def train(
    dataset: Dataset,
    *,
    settings: Settings,
    name: str,
    versions: Versions,
    verdict_ids: tuple[str, ...] = (),
    label: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train, judge and register a model.

    The last ``settings.training.holdout`` of the time is set aside. On the rest, purged: tune by purged k-fold,
    calibrate on the out-of-fold probabilities of the best parameters, fit the final model. Then the holdout is looked
    at once, and the model is registered; it becomes the champion only as :func:`tapeline.models.promotion.decide` says.

    Parameters
    ----------
    dataset:
        From :func:`tapeline.models.dataset.assemble`.
    settings:
        ``training``, ``costs``, and where MLflow and the study's journal lie.
    name:
        The registered model's name, such as ``direction-H1-EURUSD``.
    versions:
        Content hashes of features, labels and data.
    verdict_ids:
        The validation verdicts that vouch for the data; kept with the model.
    label:
        What the label means (its name and parameters); kept in the bundle.
    progress:
        Called with one line a step.

    Returns
    -------
    Everything that was found out, as plain data.

    Raises
    ------
    DataError
        There are too few rows for the folds, or only one class.
    TemporaryError
        Another process trains on the same study.
    ConfigurationError
        The name is not valid, ``card.regimes`` names no feature, or the tracking store cannot be opened.
    """
    say = progress or _silent
    study = study_name(name, dataset, asdict(versions), settings.training, settings.costs)
    regime_columns(dataset.columns, settings.card.regimes)  # a name that is none must not be found at the end
    development_rows, holdout_rows = time_holdout(dataset.t0, dataset.t_end, settings.training.holdout)
    development, holdout = dataset.take(development_rows), dataset.take(holdout_rows)
    say(f"train: {len(development)} rows to develop on, {len(holdout)} held out from {holdout.t0[0]}")
    tracking = open_tracking(settings)
    registry = Registry.open(settings, tracking)
    tags = {MODEL_TAG: name, **{f"{TAG}{key}_version": value for key, value in asdict(versions).items()}}
    with tracking.run(name, tags) as run_id:
        plan = _plan(tracking, run_id, study, development, holdout, settings)
        if plan.reason:
            say(f"train: trying {', '.join(plan.families)}: {plan.reason}")
        with TrialLog(tracking, run_id, study) as log:
            fitted = fit_model(
                development,
                settings=settings,
                name=name,
                versions=versions,
                study=study,
                label=label,
                progress=say,
                plan=plan,
                on_trial=log,
            )
        record_look(tracking, run_id, study, fitted.model.bundle.booster_sha256)
        ledger = read_ledger(tracking, name)
        say("train: looking at the holdout")
        assessment = assess(fitted.model, development, holdout, settings=settings, ledger=ledger, tuning=fitted.tuning)
        against_base = _against_base(assessment, settings.training.seed)
        say("train: registering the model")
        registered, decision = _register(
            registry, run_id, fitted, assessment, against_base, settings.training.seed, verdict_ids
        )
        rows = {
            "development": len(development),
            "purged": len(dataset) - len(development) - len(holdout),
            "holdout": len(holdout),
        }
        result = _result(
            name,
            versions,
            verdict_ids,
            label or {},
            run_id,
            registered,
            decision,
            rows,
            dataset,
            fitted,
            assessment,
            ledger,
        )
        log_result(tracking, run_id, result, against_base, fitted.tuning)
        said = fitted.model.bundle.calibration.apply(fitted.out_of_fold)
        keep_training_scores(tracking, run_id, training_scores(development, said, assessment.holdout))
        if settings.card.write:
            say("train: writing the model card")
            result = keep_card(
                tracking,
                run_id,
                result,
                fitted.model,
                development,
                holdout,
                settings=settings,
                mean_block=assessment.mean_block,
            )
    say(f"train: version {result.model_version}, {'champion' if result.promoted else 'not promoted'}: {result.reason}")
    return result


def fit_model(
    development: Dataset,
    *,
    settings: Settings,
    name: str,
    versions: Versions,
    study: str,
    label: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    plan: Plan | None = None,
    on_trial: Callable[[TrialRecord], None] | None = None,
) -> Fitted:
    """Tune, calibrate and fit on development rows only; nothing here can see a holdout.

    ``plan`` says what to try, where absent the settings do; ``on_trial`` is called with every finished trial, so that
    trials are counted even where a later step fails.
    """
    training = settings.training
    say = progress or _silent
    splitter = PurgedKFold(development.t0, development.t_end, folds=training.folds, embargo=training.embargo)
    folds = list(splitter.split(development.X))
    tuning = tune(
        development,
        folds,
        study=study,
        folder=settings.state_path / "optuna",
        training=training,
        plan=plan,
        costs=settings.costs,
        progress=say,
        on_trial=on_trial,
    )
    models = FoldModels(development, folds, training)
    out_of_fold = models.out_of_fold(tuning.family, tuning.parameters)
    say("train: calibrating on out-of-fold probabilities")
    calibration = fit_calibration(out_of_fold, development.y, development.weight)
    estimator = models.fit(models.estimator(tuning.family, tuning.parameters))
    preparation, files = write_model(estimator, len(development.columns))
    bundle = _bundle(name, development, versions, calibration, preparation, files, label or {}, tuning)
    return Fitted(make_model(bundle, files), files, tuning, out_of_fold)


def _plan(
    tracking: Tracking, run_id: str, study: str, development: Dataset, holdout: Dataset, settings: Settings
) -> Plan:
    """Describe the development rows for later runs; where the family is ``auto``, ask what earlier ones found."""
    training = settings.training
    traits = dataset_traits(development)
    record_traits(tracking, run_id, study, traits, development.t_end.max())
    if training.family != "auto":
        return plan_of_settings(training)
    # Two of the traits are scores of models on rows they were not fitted on, and they steer a choice.
    record_fits(tracking, run_id, study, "trait_probes", PROBES)
    proposal = learn(tracking, traits, before=holdout.t0.min(), study=study)
    return proposal.plan(trials=training.trials, seed=training.seed, search=training.search)


def _bundle(
    name: str,
    development: Dataset,
    versions: Versions,
    calibration: Calibration,
    preparation: Preparation,
    files: ModelFile,
    label: Mapping[str, Any],
    tuning: Tuning,
) -> Bundle:
    return Bundle(
        name=name,
        columns=development.columns,
        kept=preparation.kept,
        calibration=calibration,
        threshold=THRESHOLD,
        versions=versions,
        trained_until=development.t_end.max(),
        booster_sha256=files.sha256,
        label=label,
        parameters=tuning.parameters,
        scaling=preparation.scaling,
        model_format=files.format,
        fill=preparation.fill,
    )


def _against_base(assessment: Assessment, seed: int) -> LossDifference:
    holdout = assessment.holdout
    return loss_difference(
        holdout["y"],
        holdout["probability"],
        np.full(len(holdout), assessment.base_rate),
        pd.DatetimeIndex(holdout["t0"]).asi8,
        mean_block=assessment.mean_block,
        seed=seed,
    )


def _register(
    registry: Registry,
    run_id: str,
    fitted: Fitted,
    assessment: Assessment,
    against_base: LossDifference,
    seed: int,
    verdict_ids: tuple[str, ...],
) -> tuple[Registered, Decision]:
    """Register the model and move the aliases, under one lock: two trainings must not both beat the same champion."""
    bundle = fitted.model.bundle
    tags = {
        **{f"{TAG}{key}_version": value for key, value in asdict(bundle.versions).items()},
        f"{TAG}verdicts": " ".join(verdict_ids)[:4000],
        SKILL_TAG: repr(against_base.skill),
    }
    with registry.lock:
        present = registry.find(bundle.name)
        registered = registry.register(run_id, bundle, fitted.files, description=_description(against_base), tags=tags)
        if present is not None and present.version == registered.version:
            return present, Decision(True, f"this very model is version {present.version}, the champion, already")
        decision = decide(
            versions=bundle.versions,
            X=assessment.matrix,
            target=assessment.holdout["y"].to_numpy(),
            probability=assessment.holdout["probability"].to_numpy(),
            t0=pd.DatetimeIndex(assessment.holdout["t0"]),
            against_base=against_base,
            champion=None if present is None else _champion(registry, present, bundle),
            mean_block=assessment.mean_block,
            seed=seed,
        )
        if decision.promote:
            return registry.promote(bundle.name, registered.version), decision
        registry.challenge(bundle.name, registered.version)
        return registry.find(bundle.name, registered.version) or registered, decision


def _champion(registry: Registry, present: Registered, candidate: Bundle) -> Champion:
    recorded = present.tags.get(SKILL_TAG)
    skill = float(recorded) if recorded else None
    try:
        model = registry.load(present)
    except DataError as error:
        return Champion(present.version, candidate.versions, candidate.trained_until, skill, None, str(error))
    order = [candidate.columns.index(name) for name in model.bundle.columns if name in candidate.columns]

    def predict(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return model.probability(matrix[:, order])

    return Champion(present.version, model.bundle.versions, model.bundle.trained_until, skill, predict)


def _result(
    name: str,
    versions: Versions,
    verdict_ids: tuple[str, ...],
    label: Mapping[str, Any],
    run_id: str,
    registered: Registered,
    decision: Decision,
    rows: Mapping[str, int],
    dataset: Dataset,
    fitted: Fitted,
    assessment: Assessment,
    ledger: Ledger,
) -> TrainingResult:
    holdout, bundle = assessment.holdout, fitted.model.bundle
    values = contributions(fitted.model, assessment.matrix)
    stages = {"raw": holdout["raw"], "calibrated": holdout["probability"]}
    calibration = pd.DataFrame(
        [
            {
                "stage": stage,
                "ece": expected_calibration_error(holdout["y"], said),
                "brier": brier_score(holdout["y"], said),
                "log_loss": log_loss(holdout["y"], said),
            }
            for stage, said in stages.items()
        ]
    )
    return TrainingResult(
        name=name,
        model_version=registered.version,
        run_id=run_id,
        model_uri=f"models:/{name}/{registered.version}",
        versions=versions,
        verdict_ids=tuple(verdict_ids),
        label=dict(label),
        promoted=decision.promote,
        reason=decision.reason,
        aliases=registered.aliases,
        rows=rows,
        dropped=dataset.dropped,
        metrics=assessment.metrics,
        holdout=holdout,
        reliability=reliability_table(holdout["y"], holdout["probability"]),
        calibration=calibration,
        trials=fitted.tuning.trials,
        importance=importance_table(values, [bundle.columns[position] for position in bundle.kept]),
        trades=assessment.trades,
        equity=assessment.equity,
        cost_ladder=assessment.cost_ladder,
        random_band=assessment.random_band,
        sharpe=pd.DataFrame([asdict(assessment.sharpe)]),
        trials_total=ledger.trials + ledger.fits,
        holdout_looks=ledger.holdout_looks,
        parameters=fitted.tuning.parameters,
        study=fitted.tuning.study,
        booster_sha256=bundle.booster_sha256,
        family=fitted.tuning.family,
        family_reason=fitted.tuning.reason,
        overfitting=assessment.overfitting,
    )


def _description(against_base: LossDifference) -> str:
    return (
        f"Holdout log loss {against_base.candidate:.4f}, base rate {against_base.incumbent:.4f}, "
        f"better in {against_base.better:.0%} of block bootstrap samples, {against_base.rows} rows."
    )


def _silent(_: str) -> None:
    return None
