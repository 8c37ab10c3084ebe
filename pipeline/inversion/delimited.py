"""Delimited tables as spreadsheets and programs save them, row by row: a list of images may be longer than memory.

Read are commas, semicolons, tabs and bars, UTF-8 and what has a byte-order mark. The beginning says which; prompt lists
(``pipeline.prompt_files``) are read alike, but as a whole.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import fsspec

from pipeline.errors import PipelineError
from pipeline.prompt_files import BYTE_ORDER_MARKS, OTHER_FILES, SAVE_RIGHTLY, SEPARATORS

BEGINNING = 65_536  # bytes in which the header ends
_STATED = re.compile(r'"?sep=(.)"?[,;\t|]*\r?\n?', flags=re.IGNORECASE)  # a line that Excel writes and hides


def iter_delimited(uri: str, is_wanted: Callable[[str], bool]) -> Iterator[Mapping[str, str]]:
    """Rows of a table with a header, as text by column; blank rows and columns without a name are left out.

    Args:
        uri: the table.
        is_wanted: whether a column of that name is what the table is read for: it tells the separator.
    Raises:
        PipelineError: if the file is no such table, or a row has more cells than the header.
        OSError: if it cannot be read.
    """
    with fsspec.open(uri, "rb") as file:
        head = file.read(BEGINNING)  # pyright: ignore[reportAttributeAccessIssue]
    encoding, separator, hidden = _dialect(uri, head, is_wanted)
    with fsspec.open(uri, "rb") as file:
        text = io.TextIOWrapper(file, encoding=encoding, newline="")  # pyright: ignore[reportArgumentType]
        for _ in range(hidden):
            text.readline()
        reader = csv.reader(text, delimiter=separator, skipinitialspace=True, strict=True)
        try:
            yield from _named(uri, reader, hidden)
        except csv.Error as error:
            line = reader.line_num + hidden
            raise PipelineError(
                f"{uri}, line {line}: must be split into cells; {error}. Close every quote, and double those in a text."
            ) from error
        except UnicodeError as error:
            raise _not_text(uri, error) from error


def _dialect(uri: str, head: bytes, is_wanted: Callable[[str], bool]) -> tuple[str, str, int]:
    """Encoding, separator, and how many lines stand before the header."""
    for start, what in OTHER_FILES:
        if head.startswith(start):
            raise PipelineError(f"{uri}: a table must be text; it is {what}. {SAVE_RIGHTLY}.")
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8")
    try:
        text = head.decode(encoding, errors="strict" if len(head) < BEGINNING else "ignore").lstrip("\ufeff")
    except UnicodeError as error:
        raise _not_text(uri, error) from error
    stated = _STATED.match(text)
    if stated is not None and stated[1] in SEPARATORS:
        return encoding, stated[1], 1
    header = next((line for line in re.split(r"\r\n|\r|\n", text) if line.strip()), "")

    def fitness(separator: str) -> tuple[bool, int]:
        cells = [cell.strip().strip('"') for cell in header.split(separator)]
        return any(is_wanted(cell) for cell in cells), len(cells)

    return encoding, max(SEPARATORS, key=fitness), 0  # the first of equals


def _named(uri: str, reader: Iterator[Sequence[str]], hidden: int) -> Iterator[Mapping[str, str]]:
    header: list[str] | None = None
    for cells in reader:
        line = reader.line_num + hidden  # pyright: ignore[reportAttributeAccessIssue]
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip().lstrip("\ufeff") for cell in cells]
            twice = next((name for name in header if name and header.count(name) > 1), None)
            if twice is not None:
                raise PipelineError(f"{uri}: the header must name each column once; it has {twice!r} twice.")
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            raise PipelineError(
                f"{uri}, line {line}: a row must have no more cells than the header, which has {len(header)}; it has "
                f"{len(cells)}. Put quotes around a text with separators in it."
            )
        padded = [*cells[: len(header)], *[""] * (len(header) - len(cells))]
        yield {name: cell for name, cell in zip(header, padded, strict=True) if name}


def _not_text(uri: str, error: UnicodeError) -> PipelineError:
    return PipelineError(f"{uri}: a table must be UTF-8, or UTF-16 with its mark; {error}. {SAVE_RIGHTLY}.")
