"""Who runs the tasks of a flow: threads of this process, or the workers of the Dask cluster that the settings name."""

from __future__ import annotations

from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import load_settings

THREADS = 4


def task_runner(threads: int = THREADS) -> TaskRunner[Any]:
    """The runner of a flow whose tasks are mapped over symbols.

    Parameters
    ----------
    threads:
        How many tasks run at a time where no cluster is named.

    Returns
    -------
    Threads, or with the setting ``workers.dask`` (such as ``tcp://10.0.0.5:8786``) a runner that sends the tasks to
    that cluster. Every worker needs the same settings and must see the lake at the same address, because tasks pass
    names and versions, never data.

    Raises
    ------
    ConfigurationError
        A cluster is named and the extra ``dask`` is not installed.
    """
    try:
        address = load_settings().workers.dask
    except ConfigurationError:
        # The flow reads the settings too, and tells of what is wrong with them where people see it.
        address = None
    if address is None:
        return ThreadPoolTaskRunner(max_workers=threads)
    try:
        from prefect_dask import DaskTaskRunner
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"workers.dask names the cluster {address}, but prefect-dask is missing",
            hint="pip install 'tapeline[dask]'",
        ) from None
    return DaskTaskRunner(address=address)
