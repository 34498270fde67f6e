"""State hooks: a flow or task that fails, crashes or recovers tells the people who should know.

A flow takes them in one word, ``@flow(**HOOKS)``; ``@flow(**on_hooks(completion=True))`` also announces each success.
No hook raises: an alert must never fail the run that it reports.
"""

from __future__ import annotations

import functools
import logging
import re
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from prefect.context import FlowRunContext
from prefect.settings import get_current_settings

from tapeline.core.errors import ConfigurationError, DataError, ProviderError, TapelineError, TemporaryError
from tapeline.core.settings import Settings, load_settings
from tapeline.core.versions import digest
from tapeline.monitoring.channels import Channel, Delivery, open_channels, seconds, within
from tapeline.monitoring.formatting import plain_text
from tapeline.monitoring.metric_store import Update
from tapeline.monitoring.notification import Notification, Severity, clean_text, shorten, utc_text
from tapeline.monitoring.notifier import Notifier
from tapeline.monitoring.redaction import MASK, SENSITIVE_NAME, Redactor, redacted_logs, secret_parts
from tasks.observe import measure_all

Hook = Callable[..., None]

NOTIFY_TAG: Final = "notify"
"""A run that carries this tag announces its completion, whatever its flow says."""
MAXIMUM_ERROR: Final = 1_500
MAXIMUM_PARAMETERS: Final = 600
MAXIMUM_VALUE: Final = 80

_log: Final = logging.getLogger(__name__)
_CHANGING: Final = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\d+")


def harmless(hook: Hook) -> Hook:
    """Make a hook that logs what goes wrong in it instead of raising it."""

    @functools.wraps(hook)
    def guarded(*given: Any, **named: Any) -> None:
        # The engine passes flow, flow_run and state by position, a runner whose process was killed by name.
        run = named.get("flow_run") or named.get("task_run") or (given[1] if len(given) > 1 else None)
        try:
            hook(*given, **named)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has its own outcome already
            _logger(run).warning("the notification hook failed: %s", Redactor()(f"{type(error).__name__}: {error}"))

    return guarded


@harmless
def notify_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell that a flow run failed or timed out; remember it, so that the next success is told as a recovery."""
    _report(flow, flow_run, state, "timed out" if state.name == "TimedOut" else "failed")


@harmless
def notify_crash(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell that a flow run crashed: it was killed, interrupted, or its infrastructure gave way."""
    _report(flow, flow_run, state, "crashed")


@harmless
def notify_completion(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell that a flow is well again after a failure; an ordinary success is told only of a run tagged ``notify``.

    Each completed run also sends what still waits in the outbox.
    """
    _complete(flow, flow_run, state, announce=NOTIFY_TAG in (flow_run.tags or ()))


@harmless
def announce_completion(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell of every success, for flows that ask for it."""
    _complete(flow, flow_run, state, announce=True)


@harmless
def notify_task_failure(task: Any, task_run: Any, state: Any) -> None:
    """Tell that a task run failed for good, after its last retry; for tasks whose failure the flow survives."""
    settings = load_settings()
    redact = Redactor.of(settings)
    context = FlowRunContext.get()
    flow_name = context.flow.name if context and context.flow else None
    flow_run = context.flow_run if context else None
    error, text = _error(state, redact)
    lines = [f"task run: {task_run.name}"]
    if flow_name:
        lines.append(f"flow: {flow_name}, run {flow_run.name}" if flow_run else f"flow: {flow_name}")
    lines += [f"state: {state.name}", f"error: {text}"]
    notification = Notification(
        title=f"task {task.name} failed",
        body="\n".join(lines),
        severity=severity_of(error),
        key=digest(["task", task.name, flow_name, type(error).__name__, _CHANGING.sub("#", text)]),
        link=_link("task-run", task_run.id),
        error_type=type(error).__name__,
        notes=_hint(error, redact),
    )
    open_notifier(settings).notify(notification, task_run)


def tell(
    title: str,
    body: str,
    *,
    key: str,
    severity: Severity = Severity.ERROR,
    error_type: str | None = None,
    link: str | None = None,
    notes: tuple[str, ...] = (),
    once: bool = False,
) -> None:
    """Tell people something from inside a flow or beside one: a feed's alert, a clock that drifts. Never raises.

    Parameters
    ----------
    title, body, severity, error_type, notes, once:
        As of :class:`tapeline.monitoring.notification.Notification`; secrets of the settings are masked.
    key:
        What makes two the same: within the deduplication window the second is counted, not sent.
    link:
        Where to see more; the page of the flow run around the call where absent.
    """
    try:
        notification = Notification(title, body, severity, key, link, error_type, notes, once)
        open_notifier(load_settings()).notify(notification)
    except Exception as error:  # noqa: BLE001 - saying that something is wrong must not make it worse
        _logger(_run_around()).warning("not told: %s", Redactor()(f"{type(error).__name__}: {error}"))


def crash_key(flow_run_id: Any) -> str:
    """The key of a run's crash, so that the run itself and whoever finds it dead tell it once between them."""
    return f"crashed/{flow_run_id}"


def on_hooks(*, completion: bool = False) -> dict[str, list[Hook]]:
    """The hooks of a flow, to splat into its decorator; ``completion`` also announces each success.

    Examples
    --------
    >>> sorted(on_hooks())
    ['on_completion', 'on_crashed', 'on_failure']
    """
    return {
        "on_failure": [notify_failure],
        "on_crashed": [notify_crash],
        "on_completion": [announce_completion if completion else notify_completion],
    }


HOOKS: Final = on_hooks()
"""``@flow(**HOOKS)``: tells of failures, crashes and recoveries."""

TASK_HOOKS: Final[dict[str, list[Hook]]] = {"on_failure": [notify_task_failure]}
"""``@task(**TASK_HOOKS)``: for a task whose failure its flow survives; else the flow's own hook tells it."""


def severity_of(error: BaseException) -> Severity:
    """How urgent an error is, by its class.

    What may pass by itself is a warning; what data, a provider or a setting did is an error; what nobody foresaw, a
    crash included, is critical.

    Examples
    --------
    >>> severity_of(TemporaryError("timed out")).value, severity_of(ZeroDivisionError()).value
    ('warning', 'critical')
    """
    if isinstance(error, TemporaryError):
        return Severity.WARNING
    if isinstance(error, ProviderError | DataError | ConfigurationError):
        return Severity.ERROR
    return Severity.CRITICAL


class RunNotifier(Notifier):
    """The notifier of a flow: what goes through it says where to see more, hides secrets, is counted and logged.

    The alerts of a feed, a clock or a profile go through the same as what the hooks tell.
    """

    def notify(self, notification: Notification, run: Any = None) -> list[Delivery]:
        """Send, with the page of the flow run around the call where there is no other link. Never raises.

        Parameters
        ----------
        notification:
            What to tell.
        run:
            On whose page the outcome is logged; the flow run around the call where absent.
        """
        run = run or _run_around()
        try:
            hide, link = self._redact, notification.link
            notification = replace(
                notification,
                title=hide(notification.title),
                body=hide(notification.body),
                notes=tuple(hide(note) for note in notification.notes),
                link=link or (_link("flow-run", run.id) if run is not None else None),
            )
            deliveries = super().notify(notification)
            _count(notification, deliveries, run)
        except Exception as error:  # noqa: BLE001 - saying that something is wrong must not make it worse
            _logger(run).warning("not told: %s", Redactor()(f"{type(error).__name__}: {error}"))
            return [Delivery("notifier", "failed", type(error).__name__)]
        return deliveries


def open_notifier(settings: Settings) -> RunNotifier:
    """The notifier of the settings, with the Prefect blocks that ``notifications.prefect_blocks`` names.

    A block that cannot be loaded is logged and left out; the other channels still work.
    """
    rules = settings.notifications
    return RunNotifier(settings, channels=block_channels(rules.prefect_blocks, rules.timeout_seconds))


def block_channels(names: Iterable[str], timeout_seconds: float) -> list[Channel]:
    """The channels of Prefect notification blocks, each named ``<type>/<name>`` such as ``slack-webhook/alerts``.

    A block that holds nothing but an address (Slack, Teams) is opened as that address, so that a 429 is honoured;
    every other one sends by its own ``notify``.
    """
    channels: list[Channel] = []
    for name in names:
        try:
            channels += _block_channels(name, timeout_seconds)
        except Exception as error:  # noqa: BLE001 - one bad block must not silence the other channels
            # The error may quote the block's document, so only its class is told.
            _log.warning("the Prefect block '%s' cannot be used: %s", clean_text(name), type(error).__name__)
    return channels


class BlockChannel:
    """A Prefect notification block as a channel."""

    def __init__(self, name: str, block: Any, timeout_seconds: float) -> None:
        self.name = f"block-{re.sub('[^A-Za-z0-9/_-]', '', name)}"
        self._block = block
        self._timeout = timeout_seconds
        self._redact = Redactor(_block_secrets(block))

    def send(self, notification: Notification) -> Delivery:
        """Send by the block's own ``notify``; the status code is known only of a custom webhook's refusal."""

        def work() -> None:
            with redacted_logs(self._redact), self._block.raise_on_failure():
                self._block.notify(body=plain_text(notification), subject=notification.title, _sync=True)

        try:
            within(self._timeout, work)
        except TimeoutError:
            return Delivery(self.name, "failed", f"no answer within {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001 - each block has errors of its own
            response = getattr(error, "response", None)
            status = getattr(response, "status_code", None)
            said = f"HTTP {status}" if status else str(getattr(error, "log", error))
            detail = shorten(self._redact(f"{type(error).__name__}: {' '.join(clean_text(said).split())}"), 300)
            if status == 429:
                return Delivery(self.name, "throttled", detail, seconds(response.headers.get("Retry-After")))
            refused = isinstance(status, int) and 300 <= status < 500 and status != 408
            return Delivery(self.name, "refused" if refused else "failed", detail)
        return Delivery(self.name, "sent")


def _report(flow: Any, flow_run: Any, state: Any, verb: str) -> None:
    settings = load_settings()
    redact = Redactor.of(settings)
    error, text = _error(state, redact)
    parameters = _parameters(flow_run, redact)
    lines = [f"run: {flow_run.name}", f"state: {state.name}", f"error: {text}"]
    if parameters:
        lines.append(f"parameters: {parameters}")
    kind = type(error).__name__
    notification = Notification(
        title=f"flow {flow.name} {verb}",
        body="\n".join(lines),
        severity=Severity.CRITICAL if verb == "crashed" else severity_of(error),
        # Numbers in the message (counts, times, addresses) change from run to run; the same trouble is still the same.
        key=digest([_subject(flow, flow_run), verb, kind, _CHANGING.sub("#", text), parameters]),
        link=_link("flow-run", flow_run.id),
        error_type=kind,
        notes=_hint(error, redact),
    )
    notifier = open_notifier(settings)
    if notifier.channel_names:
        notifier.failed(_subject(flow, flow_run), shorten(text, 300))
        if verb == "crashed":
            notifier.mark_told(crash_key(flow_run.id))
    count_run(flow, flow_run, state)
    notifier.notify(notification, flow_run)


def count_run(flow: Any, flow_run: Any, state: Any) -> None:
    """Count an ended run and its length for the metrics."""
    updates = [Update("tapeline_flow_runs_total", 1, {"flow": flow.name, "state": state.name})]
    if flow_run.start_time is not None:
        length = (state.timestamp - flow_run.start_time).total_seconds()
        updates.append(Update("tapeline_flow_duration_seconds", max(length, 0.0), {"flow": flow.name}))
    measure_all(*updates)


def _complete(flow: Any, flow_run: Any, state: Any, *, announce: bool) -> None:
    count_run(flow, flow_run, state)
    settings = load_settings()
    notifier = open_notifier(settings)
    if not notifier.channel_names:
        return
    incident = notifier.recovered(_subject(flow, flow_run))
    if incident is None and not announce:
        notifier.flush()
        return
    redact = Redactor.of(settings)
    lines = [f"run: {flow_run.name}", f"state: {state.name}"]
    parameters = _parameters(flow_run, redact)
    if parameters:
        lines.append(f"parameters: {parameters}")
    title = f"flow {flow.name} completed"
    if incident is not None:
        title = f"flow {flow.name} is well again"
        since = utc_text(datetime.fromtimestamp(incident.since, UTC))
        times = "once" if incident.failures == 1 else f"{incident.failures} times"
        lines += [f"it had failed {times} since {since}", f"last error: {incident.reason}"]
    notification = Notification(
        title=title,
        body="\n".join(lines),
        severity=Severity.INFO,
        key=f"completion/{flow_run.id}",
        link=_link("flow-run", flow_run.id),
    )
    notifier.notify(notification, flow_run)


def _run_around() -> Any:
    context = FlowRunContext.get()
    return context.flow_run if context is not None else None


def _count(notification: Notification, deliveries: Iterable[Delivery], run: Any) -> None:
    measure_all(
        *(
            Update("tapeline_notifications_total", 1, {"channel": delivery.channel, "outcome": delivery.outcome})
            for delivery in deliveries
        )
    )
    for delivery in deliveries:
        good = delivery.outcome in ("sent", "duplicate")
        detail = f" ({delivery.detail})" if delivery.detail else ""
        _logger(run).log(
            logging.INFO if good else logging.WARNING,
            "notification '%s': %s %s%s",
            notification.title,
            delivery.channel,
            delivery.outcome,
            detail,
        )


def _subject(flow: Any, flow_run: Any) -> str:
    # Two deployments of one flow are two things to be well or ill; runs by hand are a third.
    return f"flow/{flow.name}/{flow_run.deployment_id or ''}"


def _error(state: Any, redact: Redactor) -> tuple[BaseException, str]:
    """The error of a state and its redacted text; where only the state's message is left, that."""
    from prefect.exceptions import CrashedRun, FailedRun
    from prefect.states import get_state_exception

    try:
        error = get_state_exception(state, _sync=True)
    except Exception:  # noqa: BLE001 - its result may be gone, unreadable, or never have been stored
        error = FailedRun(state.message or "no message")
    if isinstance(error, CrashedRun | FailedRun):
        return error, shorten(redact(clean_text(state.message or str(error))), MAXIMUM_ERROR)
    said = error.message if isinstance(error, TapelineError) else str(error)
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if state.is_crashed() and state.message:
        text = f"{state.message} ({type(error).__name__})"
    return error, shorten(redact(clean_text(text)), MAXIMUM_ERROR)


def _hint(error: BaseException, redact: Redactor) -> tuple[str, ...]:
    hint = error.hint if isinstance(error, TapelineError) else None
    return (f"hint: {redact(clean_text(hint))}",) if hint else ()


def _parameters(flow_run: Any, redact: Redactor) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = MAXIMUM_VALUE
    texts = []
    for name, value in (flow_run.parameters or {}).items():
        shown = MASK if SENSITIVE_NAME.search(str(name)) else shorten(short.repr(value), 3 * MAXIMUM_VALUE)
        texts.append(f"{name}={shown}")
    return shorten(redact(clean_text(", ".join(texts))), MAXIMUM_PARAMETERS)


def _link(kind: str, run_id: Any) -> str | None:
    base = get_current_settings().ui_url
    link = f"{base.rstrip('/')}/runs/{kind}/{run_id}" if base else None
    try:
        # Checked here, because a link that cannot be shown is no reason to say nothing.
        return Notification("link", "", Severity.INFO, key="link", link=link).link
    except ConfigurationError:
        return None


def _logger(run: Any) -> Any:
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import flow_run_logger

    # Lines of a flow run's own logger show on its page in the UI.
    return flow_run_logger(run) if isinstance(run, FlowRun) else _log


def _block_channels(name: str, timeout_seconds: float) -> list[Channel]:
    # Importing this module registers the types of the blocks, without which none can be loaded by its name.
    from prefect.blocks.core import Block
    from prefect.blocks.notifications import AppriseNotificationBlock

    load: Any = Block.load
    # Told to be synchronous, because inside an asynchronous flow it would return a coroutine instead.
    block: Any = within(timeout_seconds, lambda: load(name, _sync=True))
    if not callable(getattr(block, "notify", None)):
        raise ConfigurationError(f"the block '{name}' cannot notify")
    if isinstance(block, AppriseNotificationBlock) and block.allow_private_urls:
        opened, problems = open_channels([block.url.get_secret_value()], timeout_seconds)
        if not problems:
            return opened
    return [BlockChannel(name, block, timeout_seconds)]


def _block_secrets(block: Any) -> set[str]:
    found: set[str] = set()
    for field in type(block).model_fields:
        value = getattr(block, field)
        value = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        texts = value.values() if isinstance(value, dict) else [value]
        hidden = field == "url" or value is not getattr(block, field) or field in ("headers", "cookies", "params")
        found.update(part for text in texts if hidden and isinstance(text, str) for part in secret_parts(text))
    return found
