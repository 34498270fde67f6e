"""Requests drawn from the API's own description: none makes it fail, and each answer is one that it describes.

``TAPELINE_API_EXAMPLES=50 python -m pytest tests/gateway/test_schemathesis.py`` draws more of them.
"""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.engine_reports import EngineReport, write_engine
from tapeline.core.settings import Settings
from tapeline.gateway.app import create_app
from tests.gateway.conftest import NOW, open_context
from tests.gateway.samples import keep_firings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis (extra dev) is absent")

EXAMPLES = int(os.environ.get("TAPELINE_API_EXAMPLES", "1"))
LEFT_OUT = (
    # A condition, a time zone or a symbol has a grammar, which no JSON Schema tells: what fits the schema may be wrong.
    "positive_data_acceptance",
)
# They look a host up, and here there is nobody to ask.
RESOLVING = ("/v1/bots", "/v1/endpoints")
REFUSALS = {400, 404, 405, 408, 409, 412, 413, 414, 415, 422, 428, 429, 431}


@pytest.fixture(scope="module", autouse=True)
def _no_collections():
    """To look again and again through all that is imported costs a quarter of the time, and finds next to nothing."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The API's description, and its operations by their names."""
    folder = tmp_path_factory.mktemp("drawn")
    configured = Settings(root=folder, alerts={"gateway": {"requests_per_minute": 10**9}})
    with open_context(folder, settings=configured) as context:
        context.access.tokens["t"] = Principal("ann", "admin", None, "test:ann")
        write_engine(context.store.database, EngineReport("one", NOW, NOW, {"readiness": {"ok": True}}))
        keep_firings(context.store, "ann", NOW, dead=True)
        app = create_app(context)
        yield schemathesis.openapi.from_asgi("/v1/openapi.json", app, headers={"Authorization": "Bearer t"})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_makes_it_fail_and_every_answer_is_described(described, mode) -> None:
    schemathesis.checks.load_all_checks()
    wrong, asked = [], 0
    for found in described.get_all_operations():
        operation = found.ok()
        if mode == "positive" or _can_be_wrong(operation):
            asked += _ask(operation, mode, wrong)
    assert not wrong, "\n".join(wrong)
    assert asked >= 30 * EXAMPLES


def _ask(operation, mode: str, wrong: list[str]) -> int:
    """Send drawn requests to one operation; what is wrong with the answers, and how many there were."""
    excluded = [schemathesis.checks.CHECKS.get_one(name) for name in LEFT_OUT]
    asked = []

    @seed(8_128)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def one(case) -> None:
        answer = case.call(headers={"Authorization": "Bearer t"})
        asked.append(answer.status_code)
        if answer.status_code == 503 and operation.path.startswith(RESOLVING):
            return
        try:
            if mode == "negative" and answer.status_code in REFUSALS:
                # Any refusal will do that is described and is a problem.
                assert answer.headers["content-type"][0].startswith("application/problem+json")
                assert str(answer.status_code) in operation.definition.raw["responses"], answer.status_code
            else:
                case.validate_response(answer, excluded_checks=excluded)
        except BaseException as error:  # noqa: BLE001 - a group of what is wrong, told together at the end
            wrong.append(f"{operation.method} {operation.path}: {' '.join(str(error).split())[:600]}")

    one()
    return len(asked)


def _can_be_wrong(operation) -> bool:
    raw = operation.definition.raw
    return bool(raw.get("parameters") or raw.get("requestBody"))
