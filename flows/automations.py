"""Automations: what no run can tell of itself, because it was killed, never started or came late.

The server watches the events of runs and work pools; where an automation fires, it runs the deployment ``tell/alerts``,
which says it on the same channels as the hooks. That deployment is served by a process of its own, because the worker
may be what has failed: ``python -m flows.automations`` registers the automations and serves it.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal
from uuid import UUID

from prefect import flow
from prefect.events import ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification, RunDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.runner import Runner
from prefect.states import StateType

from flows.hooks import crash_key, tell
from tapeline.monitoring.notification import Severity

Kind = Literal["crashed", "late", "pool", "overdue"]

PREFIX: Final = "tapeline: "
HEARTBEAT_SECONDS: Final = 30
"""How often a run says that it lives; Prefect allows no shorter time."""
SILENT_AFTER: Final = timedelta(seconds=3 * HEARTBEAT_SECONDS + 10)
OVERDUE_AFTER: Final[Mapping[str, timedelta]] = {
    "pipeline/daily": timedelta(hours=74),  # from Friday's run to Monday's
    "score/hourly": timedelta(hours=3),
    "backfill/backfill": timedelta(hours=26),
    "profile/profile": timedelta(hours=26),
    "clock/clock": timedelta(hours=1),
    "lifecycle/lifecycle": timedelta(hours=26),
}
"""Deployments that are told of where no run of theirs completes for so long."""
SILENT: Final = "No heartbeat: it was killed, or its machine is gone."
ENDED: Final = frozenset(
    f"prefect.flow-run.{name}"
    for name in ("Completed", "Failed", "Cancelled", "Cancelling", "Crashed", "TimedOut", "Paused", "Suspended")
)
ANY_RUN: Final = ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"})
_TITLES: Final[Mapping[str, tuple[str, Severity]]] = {
    "crashed": ("crashed", Severity.CRITICAL),
    "late": ("is late: no worker has taken it", Severity.ERROR),
    "pool": ("is not ready: no worker polls it", Severity.ERROR),
    "overdue": ("is overdue: no run of it has completed in time", Severity.ERROR),
}


@flow(name="tell", flow_run_name="tell that {kind}", persist_result=False, retries=2, retry_delay_seconds=5)
def tell_incident(kind: Kind, resource: str) -> None:
    """Say on the channels what an automation has found.

    Parameters
    ----------
    kind:
        What was found.
    resource:
        Of what, as events name it: ``prefect.flow-run.<id>``, ``prefect.work-pool.<id>``, ``prefect.deployment.<id>``.
    """
    what, _, identifier = resource.rpartition(".")
    name, lines, link = described(what, identifier)
    text, severity = _TITLES[kind]
    gone = kind == "crashed"
    tell(
        f"{name} {text}",
        "\n".join(lines),
        severity=severity,
        key=crash_key(identifier) if gone else f"automation/{kind}/{name}",
        error_type={"crashed": "CrashedRun", "late": "LateRun"}.get(kind),
        link=link,
        once=gone,
    )


def described(what: str, identifier: str) -> tuple[str, list[str], str | None]:
    """The name of a resource, lines about it, and the link to its page; its identifier where the server has no more."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import get_current_settings

    base = (get_current_settings().ui_url or "").rstrip("/")
    kind = what.removeprefix("prefect.")
    with get_client(sync_client=True) as client:
        try:
            if kind == "flow-run":
                run = client.read_flow_run(UUID(identifier))
                parent = client.read_flow(run.flow_id)
                state = run.state_name or "unknown"
                said = f": {run.state.message}" if run.state is not None and run.state.message else ""
                lines = [f"run: {run.name}", f"state: {state}{said}"]
                if run.start_time is not None:
                    lines.append(f"started: {run.start_time:%Y-%m-%d %H:%M:%S} UTC")
                return f"flow {parent.name}", lines, f"{base}/runs/flow-run/{identifier}" if base else None
            if kind == "deployment":
                deployment = client.read_deployment(UUID(identifier))
                parent = client.read_flow(deployment.flow_id)
                link = f"{base}/deployments/deployment/{identifier}" if base else None
                return f"deployment {parent.name}/{deployment.name}", [], link
            if kind == "work-pool":
                pools = [pool for pool in client.read_work_pools() if str(pool.id) == identifier]
                name = pools[0].name if pools else identifier
                return f"work pool {name}", [], f"{base}/work-pools/work-pool/{name}" if base and pools else None
        except ObjectNotFound:
            pass
    return f"{kind} {identifier}", [], None


def automations(
    tell_deployment: UUID, deployments: Mapping[str, UUID], *, silent_after: timedelta = SILENT_AFTER
) -> list[AutomationCore]:
    """Every automation, by a name of its own.

    Parameters
    ----------
    tell_deployment:
        The deployment that tells.
    deployments:
        The watched deployments, ``flow/deployment`` to identifier; those that :data:`OVERDUE_AFTER` names are watched.
    silent_after:
        How long a running run may send no heartbeat.
    """

    def telling(kind: Kind, resource: str = "{{ event.resource.id }}") -> RunDeployment:
        # A text with braces is rendered by the server, with the event that fired.
        template: Any = {"__prefect_kind": "jinja", "template": resource} if "{{" in resource else resource
        return RunDeployment(
            source="selected", deployment_id=tell_deployment, parameters={"kind": kind, "resource": template}
        )

    heartbeat = "prefect.flow-run.heartbeat"
    found = [
        AutomationCore(
            name=f"{PREFIX}a run has gone silent",
            description="A run that was killed reports nothing: it is marked as crashed, which is then told.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                match=ANY_RUN,
                after={heartbeat},
                expect={heartbeat, *ENDED},
                for_each={"prefect.resource.id"},
                threshold=1,
                within=silent_after,
            ),
            actions=[
                ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=SILENT),
            ],
        ),
        reactive("a run has crashed", {"prefect.flow-run.Crashed"}, ANY_RUN, telling("crashed")),
        reactive("a run is late", {"prefect.flow-run.Late"}, ANY_RUN, telling("late")),
        reactive(
            "a work pool is not ready",
            {"prefect.work-pool.not-ready"},
            ResourceSpecification.model_validate({"prefect.resource.id": "prefect.work-pool.*"}),
            telling("pool"),
        ),
    ]
    for name, within in OVERDUE_AFTER.items():
        if name in deployments:
            resource = f"prefect.deployment.{deployments[name]}"
            found.append(
                AutomationCore(
                    name=f"{PREFIX}{name} is overdue",
                    description=f"No run of {name} has completed within {within}.",
                    trigger=EventTrigger(
                        posture=Posture.Proactive,
                        match=ANY_RUN,
                        match_related=ResourceSpecification.model_validate({"prefect.resource.id": resource}),
                        expect={"prefect.flow-run.Completed"},
                        threshold=1,
                        within=within,
                    ),
                    actions=[telling("overdue", resource)],
                )
            )
    return found


def reactive(name: str, events: set[str], match: ResourceSpecification, action: RunDeployment) -> AutomationCore:
    """An automation that fires at each such event."""
    return AutomationCore(
        name=f"{PREFIX}{name}",
        trigger=EventTrigger(
            posture=Posture.Reactive, match=match, expect=events, threshold=1, within=timedelta(seconds=0)
        ),
        actions=[action],
    )


async def register(found: list[AutomationCore]) -> None:
    """Create the automations, or bring those of the same names up to date; those that are no more are removed."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        known = {one.name: one for one in await client.read_automations() if one.name.startswith(PREFIX)}
        for one in found:
            former = known.pop(one.name, None)
            if former is None:
                await client.create_automation(one)
            else:
                # A switch that a person has set in the UI stays as it is.
                one.enabled = former.enabled
                await client.update_automation(former.id, one)
        for former in known.values():
            await client.delete_automation(former.id)


async def serve(silent_after: timedelta) -> None:
    """Register everything, then run ``tell/alerts`` whenever the server asks for it."""
    from prefect.client.orchestration import get_client

    runner = Runner(name="alerts", limit=5, query_seconds=5)
    deployment = await runner.aadd_deployment(await tell_incident.ato_deployment("alerts"))
    async with get_client() as client:
        flows = {one.id: one.name for one in await client.read_flows()}
        deployments = {f"{flows.get(one.flow_id)}/{one.name}": one.id for one in await client.read_deployments()}
    await register(automations(deployment, deployments, silent_after=silent_after))
    await runner.start()


def main() -> None:
    """Serve until the process is ended."""
    ask = argparse.ArgumentParser(description="Register the automations and run what they ask for.")
    ask.add_argument("--silent-after", type=float, default=SILENT_AFTER.total_seconds(), metavar="SECONDS")
    asyncio.run(serve(timedelta(seconds=ask.parse_args().silent_after)))


if __name__ == "__main__":
    main()
