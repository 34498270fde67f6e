"""What a person sees on the terminal: tables, lines, errors. Text from outside is printed as text, never as markup."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from rich.table import Table

UNEXPECTED: Final = 70  # EX_SOFTWARE of sysexits.h
FILE_WIDTH: Final = 160
"""The width of tables where the output is a file or a pipe, which has none of its own."""


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{text}\n")


def one_line(text: str, *, keep_spaces: bool = False) -> str:
    r"""Text without line breaks and control characters: a hostile name must not redraw the terminal.

    Examples
    --------
    >>> one_line("EURUSD\x1b[2J\nH1")
    'EURUSD [2J H1'
    """
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if keep_spaces else " ".join(printable.split())


def report_error(error: Exception) -> int:
    """Print an error as one line with its hint to standard error, and give the exit status.

    One that has ``lines``, such as those of files with rules, is printed as these.
    """
    from tapeline.core.errors import TapelineError

    if isinstance(error, TapelineError):
        lines = getattr(error, "lines", ()) or (error.message,)
        kept = len(lines) > 1
        shown = (one_line(line, keep_spaces=kept).rstrip() for line in lines)
        sys.stderr.write("error: " + "".join(f"{line}\n" for line in shown))
        if error.hint:
            sys.stderr.write(f"hint: {one_line(error.hint)}\n")
        return error.exit_code
    sys.stderr.write(f"error: {type(error).__name__}: {one_line(str(error))}\n")
    sys.stderr.write("hint: this was not expected; add --verbose to see where it comes from\n")
    return UNEXPECTED


def terminal() -> Any:
    """Where tables go."""
    from rich.console import Console

    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)


def print_table(title: str, frame: pd.DataFrame, *, right: Collection[str] = ()) -> None:
    """Print a frame as a table: numbers and the columns ``right`` to the right, floats with five digits."""
    from pandas.api.types import is_numeric_dtype

    numeric = [str(name) for name in frame.columns if name in right or is_numeric_dtype(frame[name])]
    table = new_table(title, [str(column) for column in frame.columns], right=numeric)
    for row in frame.itertuples(index=False):
        table.add_row(*(cell(value) for value in row))
    terminal().print(table)


def new_table(title: str, columns: list[str], *, right: list[str] | None = None) -> Table:
    """A table in the house style, some columns to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", highlight=False)
    for column in columns:
        table.add_column(Text(column), justify="right" if column in (right or ()) else "left", overflow="fold")
    return table


def cell(value: object) -> str:
    """One value as a person reads it.

    Examples
    --------
    >>> cell(6225), cell(0.123456), cell(float("nan")), cell(True)
    ('6,225', '0.12346', '-', 'True')
    """
    if isinstance(value, float):
        return "-" if value != value else f"{value:.5g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return one_line(str(value))


def write_csv(result: pa.Table) -> None:
    """Write a table to standard output as CSV."""
    import pyarrow.csv

    pyarrow.csv.write_csv(result, sys.stdout.buffer)
