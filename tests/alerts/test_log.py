"""Lines of the log: JSON, one a record, without secrets, rotated."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.alerts.log import close_log, open_log
from tapeline.core.errors import ConfigurationError

SECRET = "hunter2-very-long"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "logs" / "alerts.log"
    handler = open_log(file, secrets=[SECRET], rotate_bytes=4_000, kept=2)
    yield file
    close_log(handler)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_a_record_is_one_line_with_the_fields_of_the_schema(path: Path) -> None:
    logging.getLogger("tapeline.alerts").warning("two\nlines \x1b[31mred", extra={"rule": "r\n1", "count": 3})
    (line,) = lines(path)
    assert line["message"] == "two\\nlines  red"
    assert {"@timestamp", "log.level", "ecs.version", "service.name", "event.dataset", "log.logger"} <= set(line)
    assert (line["log.level"], line["labels.rule"], line["labels.count"]) == ("warning", "r\\n1", 3)
    assert str(line["@timestamp"]).endswith("Z")


def test_no_secret_is_written_wherever_it_stands(path: Path) -> None:
    logger = logging.getLogger("tapeline.alerts.delivery")
    logger.error("sent to https://user:%s@host with Bearer abcdefghijkl", SECRET, extra={"address": f"x/{SECRET}/y"})
    try:
        raise ValueError(f"cannot open postgresql://me:{SECRET}@db/alerts")
    except ValueError:
        logger.exception("it failed with %s", SECRET)
    text = path.read_text(encoding="utf-8")
    assert SECRET not in text
    assert "abcdefghijkl" not in text
    assert lines(path)[1]["error.type"] == "ValueError"
    assert "Traceback" in str(lines(path)[1]["error.stack_trace"])


def test_the_file_is_its_owners_and_is_rotated(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for number in range(100):
        logging.getLogger("tapeline.alerts").info("line %d", number)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["alerts.log", "alerts.log.1", "alerts.log.2"]
    assert all(file.stat().st_size <= 4_000 for file in files)
    assert lines(path)[-1]["message"] == "line 99"


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        open_log(tmp_path / "file" / "log")
    with pytest.raises(ConfigurationError, match="positive"):
        open_log(tmp_path / "log", kept=0)
