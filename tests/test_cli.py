"""The command line answers plainly: one line an error, a hint, a status; nothing heavy for the help."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from tapeline import cli, console
from tapeline.core.schemas import CLEAN_BARS
from tests.core.samples import eurusd
from tests.lake.support import EURUSD, H1, LINEAGE, SWAP, raw


@pytest.fixture
def tapeline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a command line in a fresh project folder; gives (status, standard output, standard error)."""
    monkeypatch.setenv("TAPELINE_ROOT", str(tmp_path))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tapeline", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_help_names_every_command(tapeline):
    status, out, _ = tapeline("--help")
    assert status == 0
    assert all(command in out for command in ("run", "score", "status", "catalog", "audit", "sql"))


def test_help_imports_nothing_heavy():
    heavy = "{'pandas', 'numpy', 'prefect', 'mlflow', 'pyarrow', 'great_expectations', 'sklearn'}"
    code = (
        "import sys; sys.argv = ['tapeline', '--help']\n"
        "from tapeline import cli\n"
        "try: cli.main()\n"
        f"except SystemExit: sys.exit(bool({heavy} & set(sys.modules)) and str({heavy} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "--symbols", "../../etc"), "../../etc"),
        (("run", "--symbols", ""), "no symbol"),
        (("run", "--timeframe", "H7"), "H7"),
        (("run", "--source", "carrier-pigeon"), "carrier-pigeon"),
        (("run", "--start", "yesterday-ish"), "yesterday-ish"),
        (("run", "--start", "2017-02-01", "--end", "2017-01-01"), "2017-02-01"),
        (("score", "--once", "--symbols", "EURUSD,EURUSD"), "twice"),
        (("audit", "no_such_component"), "no_such_component"),
    ],
)
def test_bad_requests_are_one_line_with_a_hint(tapeline, arguments, named):
    status, _, err = tapeline(*arguments)
    assert status == 78
    first, *rest = err.splitlines()
    assert first.startswith("error: ")
    assert named in first
    assert len(rest) <= 1
    assert all(line.startswith("hint: ") for line in rest)


def test_verbose_shows_the_trace(tapeline):
    with pytest.raises(Exception, match="H7"):
        tapeline("run", "--timeframe", "H7", "--verbose")


def test_an_unexpected_error_says_so(tapeline, monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(cli, "open_lake", broken)
    status, _, err = tapeline("status")
    assert status == console.UNEXPECTED
    assert "ZeroDivisionError: a defect" in err
    assert "--verbose" in err


def test_status_of_an_empty_lake_says_how_to_fill_it(tapeline):
    status, out, _ = tapeline("status")
    assert status == 0
    assert "tapeline run" in out


@pytest.mark.parametrize("query", ["copy (select 1) to 'x.csv'", "select * from '/etc/passwd'", "select 1; select 2"])
def test_sql_refuses_what_is_not_one_read_of_the_lake(tapeline, query, tmp_path):
    status, _, err = tapeline("sql", query)
    assert status not in (0, console.UNEXPECTED)
    assert err.startswith("error: ")
    assert not list(tmp_path.glob("*.csv"))


def test_a_hostile_name_cannot_redraw_the_terminal(tapeline):
    _, _, err = tapeline("run", "--timeframe", "\x1b[2JH1")
    assert "\x1b" not in err


def test_catalog_lists_components_with_their_reference(tapeline):
    status, out, _ = tapeline("catalog", "--kind", "label")
    assert status == 0
    assert "triple_barrier" in out


def test_audit_catches_a_users_leaking_feature(tapeline, tmp_path):
    leaking = tmp_path / "leaking.py"
    leaking.write_text(
        "from tapeline.core.registry import feature\n"
        "@feature(lookback=1, outputs='tomorrow', reference='none')\n"
        "def tomorrow(bars):\n"
        "    return bars['close'].shift(-1) / bars['close'] - 1\n"
    )
    status, out, _ = tapeline("audit", str(leaking))
    assert status == 1
    assert [line.split()[:3] for line in out.splitlines() if "truncate" in line] == [["tomorrow", "truncate", "FAILED"]]


def test_audit_passes_an_honest_component(tapeline):
    status, out, _ = tapeline("audit", "rsi", "ema_cross")
    assert status == 0
    assert "FAILED" not in out
    assert "no verdict" not in out
    assert {line.split()[0] for line in out.splitlines()} == {"rsi", "ema_cross"}


def test_features_diff_names_what_differs(tapeline, tmp_path):
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text('name = "mine"\n[[feature]]\ncomponent = "rsi"\n')
    other.write_text('name = "mine"\n[[feature]]\ncomponent = "rsi"\nwindow = 7\n')
    status, out, _ = tapeline("features", "diff", str(one), str(other))
    assert status == 0
    assert "- rsi(window=14)" in out
    assert "+ rsi(window=7)" in out
    assert tapeline("features", "diff", str(one), str(one))[1].endswith("no difference\n")


def test_a_selection_is_refused_before_anything_starts_and_a_set_that_is_not_there_cannot_be_restored(tapeline):
    status, _, err = tapeline("features", "select", "--feature-set", "no-such-set")
    assert status not in (0, console.UNEXPECTED)
    assert "no-such-set" in err
    assert "timeframe 'H7'" in tapeline("features", "select", "--timeframe", "H7")[2]
    status, _, err = tapeline("features", "restore", "direction-H1-NONE")
    assert status not in (0, console.UNEXPECTED)
    assert "no former champion set" in err


def test_rollback_of_a_model_that_does_not_exist_is_a_clear_error(tapeline):
    status, _, err = tapeline("models", "rollback", "direction-H1-NONE")
    assert status not in (0, console.UNEXPECTED)
    assert "direction-H1-NONE" in err


def test_trace_prints_the_lineage_of_a_stored_row(tapeline, tmp_path: Path):
    from tapeline.core.schemas import RAW_BARS
    from tapeline.core.settings import load_settings
    from tapeline.lake import Lake, Lineage
    from tests.lake.support import EURUSD, H1, raw
    from tests.support import make_bars

    bars = raw(make_bars(5), source="files:eurusd.csv")
    lineage = Lineage("run-7", "ingest", ("eurusd.csv, SHA-256 9f86d081",))
    Lake(load_settings().lake_path).write(RAW_BARS, bars, EURUSD, H1, lineage=lineage)
    status, out, _ = tapeline("trace", "EURUSD", "H1", bars.index[2].isoformat())
    assert status == 0
    assert "raw/bars EURUSD H1" in out
    assert "brought by run run-7, ingest, from eurusd.csv, SHA-256 9f86d081" in out
    status, _, err = tapeline("trace", "EURUSD", "H1", "1999-01-01")
    assert status != 0
    assert "holds no row" in err


def test_quality_of_a_day_is_explained_bar_by_bar(tapeline, tmp_path: Path, monkeypatch):
    from tapeline.core.schemas import RAW_BARS
    from tapeline.core.symbol import Symbol
    from tapeline.core.timeframe import Timeframe
    from tapeline.lake.lake import Lake, Lineage
    from tests.lake.support import raw
    from tests.support import make_bars

    monkeypatch.setenv("TAPELINE_CALENDARS__DEFAULT", "24x7")
    bars = raw(make_bars(72, gaps=False))
    bars.iloc[30, bars.columns.get_loc("close")] = -1.0
    series = Symbol.parse("EURUSD"), Timeframe.parse("H1")
    Lake(tmp_path / "data").write(RAW_BARS, bars.drop(bars.index[40]), *series, lineage=Lineage("run", "test"))
    status, out, err = tapeline("quality", "EURUSD", "--day", "2017-01-03")
    assert (status, err) == (0, "")
    assert "not_positive" in out
    assert "missing" in out
    assert "from 16:00 to 2017-01-03 17:00" in out.replace("\n", " ")
    status, _, err = tapeline("quality", "EURUSD", "--day", "tomorrow-ish")
    assert status != 0
    assert "tomorrow-ish" in err


def test_a_chart_is_drawn_from_stored_or_sample_bars(tapeline, tmp_path: Path):
    folder = tmp_path / "charts"
    status, out, err = tapeline("chart", "EURUSD", "--from", "2017-05-01", "--to", "2017-05-05", "--out", str(folder))
    assert status == 0, err
    assert "break_of_structure" in out
    files = {file.suffix: file for file in folder.iterdir()}
    assert files[".png"].read_bytes().startswith(b"\x89PNG")
    assert "order block" in files[".html"].read_text()
    assert files[".png"].name in out.replace("\n", "")


def test_harmonic_patterns_are_looked_for_in_several_series(tapeline):
    lake = cli.open_lake()
    for symbol, rows in ((EURUSD, 2_000), (SWAP, 2_750)):
        bars = raw(eurusd().iloc[:rows]).assign(repaired=False, outlier=False, filled=False)
        lake.write(CLEAN_BARS, bars, symbol, H1, lineage=LINEAGE)
    names = f"{EURUSD},{SWAP}"
    status, out, err = tapeline("scan", names, "--timeframes", "H1", "--csv")
    assert status == 0, err
    found = pd.read_csv(StringIO(out))
    assert found["rank"].tolist() == [1, 2, 3, 4]
    assert found["symbol"].value_counts().to_dict() == {str(EURUSD): 3, str(SWAP): 1}
    assert found.loc[found["symbol"] == str(SWAP), "state"].tolist() == ["formed"]
    assert found["weight"].is_monotonic_decreasing
    status, out, _ = tapeline("scan", names, "--timeframes", "H1", "--limit", "1")
    assert status == 0
    assert "4 harmonic patterns stand in 2 series" in out
    assert out.count(" H1 ") == 1


@pytest.mark.parametrize("command", ["scan", "patterns"])
def test_a_series_that_cannot_be_is_refused_before_anything_starts(tapeline, command):
    status, _, err = tapeline(command, "../../etc")
    assert status != 0
    assert "../../etc" in err
    option = "--timeframes" if command == "scan" else "--timeframe"
    assert "H7" in tapeline(command, "EURUSD", option, "H7")[2]


def test_a_chart_of_what_is_not_there_is_a_clear_error(tapeline):
    assert "did you mean order_block" in tapeline("chart", "EURUSD", "--findings", "order_blok")[2]
    assert "no bar from" in tapeline("chart", "EURUSD", "--from", "2031-01-01")[2]
    assert "order_block" in tapeline("chart", "--list")[1]
