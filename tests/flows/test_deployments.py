"""The deployments as written down: each runs, each is on the page, none connects to an exchange for a feed unasked."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.prefect

REPOSITORY = Path(__file__).parents[2]
DEPLOYMENTS = {one["name"]: one for one in yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_names_a_flow_that_takes_its_parameters_and_stands_on_the_pages(name):
    from prefect import Flow

    one = DEPLOYMENTS[name]
    path, _, function = one["entrypoint"].partition(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
    assert isinstance(flow, Flow)
    inspect.signature(flow.fn).bind(**one.get("parameters", {}))
    assert one["description"]
    assert one["schedules"]
    assert one["concurrency_limit"]["limit"] == 1
    assert flow.timeout_seconds or name == "live", "a run that hangs ends, but for the one that is to last"
    for page in ("README.md", "docs/running.md"):
        assert f"`{flow.name}/{name}`" in (REPOSITORY / page).read_text(), page


def test_the_live_feed_is_off_until_someone_wants_it():
    (schedule,) = DEPLOYMENTS["live"]["schedules"]
    assert schedule["active"] is False


def test_the_list_of_pages_is_complete():
    text = (REPOSITORY / "README.md").read_text()
    absent = [page.name for page in (REPOSITORY / "docs").glob("*.md") if f"(docs/{page.name})" not in text]
    assert not absent


def test_no_flow_hides_a_module_of_the_standard_library():
    # Prefect imports a flow with the flow's folder first on the path: flows/profile.py once stood in for `profile`,
    # and whatever imported cProfile next, numba and stumpy among them, failed.
    hidden = {path.stem for path in (REPOSITORY / "flows").glob("*.py")} & set(sys.stdlib_module_names)
    assert not hidden, f"rename flows/{min(hidden)}.py: a worker would import it instead of the standard library's"
