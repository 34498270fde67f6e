"""``tapeline models``: the versions of a model, their cards, promotion and rollback."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from tapeline.cli_lifecycle import models_performance, models_retrain
from tapeline.cli_options import ModelName, Symbols, TimeframeName
from tapeline.console import print_table, say

MODEL_TAGS: Final = ("feature_set_version", "label_version", "data_version", "reason")

models_application = typer.Typer(
    help="Registered models: list, card, performance, compare, retrain, promote, roll back.", no_args_is_help=True
)
models_application.command("performance")(models_performance)
models_application.command("retrain")(models_retrain)


@models_application.command("list")
def models_list(
    name: Annotated[str, typer.Argument(help="The registered model, such as direction-H1-EURUSD.")],
) -> None:
    """The versions of a model with their aliases and what they were made from."""
    import pandas as pd

    from tapeline.core.settings import load_settings
    from tapeline.models.registry import Registry

    versions = Registry.open(load_settings()).versions(name)
    if not versions:
        say(f"There is no model '{name}'. Train one with: tapeline run")
        return
    rows = [
        (v.version, ", ".join(v.aliases), *(v.tags.get(f"tapeline.{tag}", "") for tag in MODEL_TAGS)) for v in versions
    ]
    print_table(name, pd.DataFrame(rows, columns=["version", "aliases", *MODEL_TAGS]))


@models_application.command("card")
def models_card(
    name: Annotated[str, typer.Argument(help="The registered model, such as direction-H1-EURUSD.")],
    version: Annotated[
        str | None, typer.Option(help="A number or an alias; the champion, or the newest where there is none.")
    ] = None,
) -> None:
    """Write a version's model card to a file: what it is, how good and where, how it decides, what it is not for."""
    from tapeline.core.settings import load_settings
    from tapeline.models.card_store import fetch_card

    say(f"Card {fetch_card(load_settings(), name, version).as_uri()}")


@models_application.command("promote")
def models_promote(name: str, version: str) -> None:
    """Make a version the champion, by your own decision; the former one can be had back by rollback."""
    from tapeline.core.settings import load_settings
    from tapeline.models.registry import promote

    say(f"{name}: version {promote(load_settings(), name, version).version} is the champion")


@models_application.command("rollback")
def models_rollback(name: str) -> None:
    """Make the champion before this one the champion again."""
    from tapeline.core.settings import load_settings
    from tapeline.models.registry import rollback

    say(f"{name}: version {rollback(load_settings(), name).version} is the champion again")


@models_application.command("compare")
def models_compare(
    symbols: Symbols = "EURUSD",
    timeframe: TimeframeName = "H1",
    model: ModelName = None,
    late: Annotated[bool, typer.Option(help="Count scores written after the outcome was known, too.")] = False,
) -> None:
    """How the challenger did beside the champion on live bars, and whether that speaks for promoting it."""
    from tapeline.cli import split_symbols
    from tasks.job import model_name, plan_jobs
    from tasks.score import shadow_evidence_of

    jobs = plan_jobs("local", "", split_symbols(symbols), timeframe, None, None)
    name = model or model_name(jobs)
    evidence = shadow_evidence_of(name, jobs, live_only=not late)
    if evidence.late:
        say(f"{evidence.late} rows do not count: they were scored after their outcome was known")
    say(f"{name}: {'promote' if evidence.decision.promote else 'keep the champion'}: {evidence.decision.reason}")
    if evidence.decision.promote:
        say(f"to do it: tapeline models promote {name} {evidence.challenger}")
