"""The files that prompt lists come in: CSV as spreadsheets save it, JSON Lines, YAML, Parquet.

A file becomes named rows, each with its place in the file. What can be read without guessing is read: any of the
separators and line ends that spreadsheets write, UTF-16 with its byte-order mark, empty rows and empty columns,
headers in capitals, an index column. For anything else the error says what was seen, where, and how to save it.
"""

import codecs
import csv
import difflib
import io
import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.errors import PromptError

SAVE_RIGHTLY = "In the spreadsheet, save it as 'CSV UTF-8 (comma delimited)'"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
BYTE_ORDER_MARKS = (  # UTF-32's begins as UTF-16's does, so it comes first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
OTHER_FILES = (
    (b"PK\x03\x04", "a workbook (.xlsx, .ods)"),
    (b"\xd0\xcf\x11\xe0", "a workbook (.xls)"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "a gzip file"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")
UNNAMED = re.compile(r"(unnamed:_\d+)?_?")  # pandas calls a column without a name so
INDEX = re.compile(r"(unnamed:_\d+|_?index(_level_\d+_?)?|#|no\.?|nr\.?|row)?")


@dataclass(frozen=True)
class Row:
    """One row of a list.

    Attributes:
        where: its place, as ``line 3``: a spreadsheet's number, or a line of JSON; ``row 2`` where rows have no lines.
        values: what it gives, by column as written in the list.
        problem: why it cannot be split into columns; None where it can.
        header: place of the columns' names, as ``where``; None where every row names its own.
    """

    where: str
    values: Mapping[Any, Any]
    problem: str | None = None
    header: str | None = None


def read_rows(uri: str, data: bytes) -> list[Row]:
    """The rows of a prompt list's file.

    Args:
        uri: name of the file; its ending tells the kind.
        data: its content.
    Raises:
        PromptError: if the ending is unknown or the file cannot be read.
    """
    kind = posixpath.splitext(uri)[1].lower()
    if kind not in _READERS:
        raise PromptError(
            f"{uri}: a prompt list must end in {', '.join(sorted(_READERS))}; got {kind or 'no ending'!r}."
            f"{f' {SAVE_RIGHTLY}.' if kind in ('.xlsx', '.xls', '.ods', '.txt') else ''}"
        )
    try:
        return _READERS[kind](data)
    except (ValueError, TypeError, OverflowError, RecursionError, OSError, yaml.YAMLError, pa.ArrowException) as error:
        detail = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:400]
        raise PromptError(f"{uri}: must be a readable {kind} prompt list; {detail.rstrip('.')}.") from error


def named(rows: Sequence[Row], columns: Sequence[str]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Rows by known columns, without what spreadsheets add: empty rows, empty columns without a name, an index.

    Args:
        rows: as read; a column's name may have capitals, and spaces or dashes for underscores.
        columns: the known columns.
    Returns:
        the rows that give anything, and what is wrong with rows and columns as (place, problem) pairs; each problem
        of a column is told once, at the header, or else at the first row that has it.
    """
    problems = [(row.where, row.problem) for row in rows if row.problem is not None]
    kept = [row for row in rows if any(is_given(value) for value in row.values.values())]
    keys = dict.fromkeys(key for row in kept for key in row.values)
    first = next(iter(keys), None)
    names: dict[Any, str] = {}
    for key in keys:
        name = column_name(key)
        found = [(row.where, row.values[key]) for row in kept if is_given(row.values.get(key))]
        if name in columns:
            names[key] = name
        elif _is_index(name, found, is_first=key == first) or (UNNAMED.fullmatch(name) and not found):
            continue
        else:
            row = next((row for row in kept if is_given(row.values.get(key))), None)
            row = row or next(row for row in kept if key in row.values)
            named_there = name and not isinstance(key, _Unnamed)  # one without a name is found by what it holds
            where = (row.header or row.where) if named_there else row.where
            problems.append((where, _unknown(key, name, found, columns)))
    out = []
    for row in kept:
        values: dict[str, Any] = {}
        for key, value in row.values.items():
            if key in names and names[key] in values:
                problems.append((row.where, f"column `{names[key]}` must stand once; got it twice. Leave one out."))
            if key in names:
                values[names[key]] = value
        if any(is_given(value) for value in values.values()) or not names:
            out.append(Row(row.where, values))
    return out, problems


def column_name(key: object) -> str:
    """A column's name in lower case, without the spaces around it, underscores for those inside and for dashes."""
    text = "" if key is None or isinstance(key, _Unnamed) else str(key)
    return re.sub(r"[\s_-]+", "_", text.strip().strip("\ufeff").strip().lower())


def is_given(value: object) -> bool:
    """Whether a cell holds anything: None, NaN and blank text are nothing."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, float) and value != value)


def shown(value: object, limit: int = 60) -> str:
    """A value for a message, cut where it is long."""
    if isinstance(value, list | dict | tuple | set):  # YAML's may nest without end
        inside = value.values() if isinstance(value, dict) else value
        if any(isinstance(item, list | dict | tuple | set) for item in inside):
            return f"a {type(value).__name__} of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


@dataclass(frozen=True)
class _Unnamed:
    """A column that the header leaves without a name, by its number from 1."""

    number: int


def _is_index(name: str, found: Sequence[tuple[str, Any]], *, is_first: bool) -> bool:
    """Whether a column only counts the rows: named as such or the first without a name, whole numbers, none twice."""
    if not INDEX.fullmatch(name) or (not name and not is_first):
        return False
    numbers = [str(value).strip() for _, value in found if isinstance(value, str | int) and not _is_huge(value)]
    if len(numbers) < len(found):
        return False
    return bool(numbers) and len(set(numbers)) == len(numbers) and all(re.fullmatch(r"\d+", n) for n in numbers)


def _is_huge(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() > 64


def _unknown(key: Any, name: str, found: Sequence[tuple[str, Any]], columns: Sequence[str]) -> str:
    """What is wrong with a column that nothing reads."""
    if isinstance(key, _Unnamed) or not name:
        number = f" {key.number}" if isinstance(key, _Unnamed) else ""
        return (
            f"column{number} must have a name or be empty; it holds {shown(found[0][1]) if found else 'nothing'}. "
            f"Name it in the header, or put quotes around a text with separators in it."
        )
    close = difflib.get_close_matches(name, columns, n=1)
    meant = f" Is {close[0]!r} meant?" if close else ""
    return f"unknown column {shown(key)}.{meant} Known columns are {', '.join(columns)}."


# ------------------------------------------------------------------ one reader a kind


def _decoded(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark."""
    for start, what in OTHER_FILES:
        if data.startswith(start):
            raise ValueError(f"it is {what}. {SAVE_RIGHTLY}")
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(
                f"it begins as {encoding.upper()} does and is damaged after byte {error.start}. {SAVE_RIGHTLY}"
            ) from error
        line = len(re.findall(rb"\r\n|\r|\n", data[: error.start])) + 1  # _LINE_END, in bytes
        byte = data[error.start : error.start + 1]
        western = byte.decode("cp1252", errors="ignore")
        reading = f" (in Windows-1252 it is {western!r})" if western else ""
        raise ValueError(
            f"it must be UTF-8; byte 0x{byte[0]:02X} in line {line} is not{reading}. {SAVE_RIGHTLY}"
        ) from error
    if "\0" in text:
        line = len(_LINE_END.findall(text[: text.index("\0")])) + 1
        raise ValueError(
            f"it must be text; line {line} holds a zero byte, as UTF-16 without a byte-order mark does. {SAVE_RIGHTLY}"
        )
    return text.lstrip("\ufeff")


def _read_csv(data: bytes) -> list[Row]:
    """Rows of a table with a header; the separator is that of a ``sep=`` line, else the header's."""
    text = _decoded(data)
    separator, start = _stated_separator(text)
    hidden = len(_LINE_END.findall(text[:start]))  # lines that a spreadsheet does not show
    text = text[start:]
    separator = separator or _separator(text)
    header: list[Any] | None = None
    header_at: str | None = None
    rows = []
    for number, line, cells in _records(text, separator):
        where = f"line {number}" if line + hidden == number else f"line {number} (line {line + hidden} of the file)"
        if isinstance(cells, str):
            rows.append(Row(where, {}, cells))
        elif not any(cell.strip() for cell in cells):
            continue
        elif header is None:
            header, header_at = _header(cells, where, separator), where
        elif extra := [cell for cell in cells[len(header) :] if cell.strip()]:
            rows.append(Row(where, {}, _too_many(cells, len(header), extra[0], separator)))
        else:
            padded = [*cells[: len(header)], *[""] * (len(header) - len(cells))]
            rows.append(Row(where, dict(zip(header, padded, strict=True)), header=header_at))
    return rows


def _too_many(cells: Sequence[str], wanted: int, extra: str, separator: str) -> str:
    """What is wrong with a row of more fields than the header names."""
    before = cells[wanted - 1].strip()
    if separator == "," and before.isdecimal() and extra.strip().isdecimal():
        cause = f"write {before}.{extra.strip()} with a point, or several numbers with spaces between"
    else:
        cause = f"quote texts with {SEPARATORS[separator]} in them"
    return f"it has {len(cells)} fields where the header names {wanted}; {cause}. The field too many is {shown(extra)}."


def _stated_separator(text: str) -> tuple[str | None, int]:
    """The separator that a ``sep=`` line states, and where the text goes on after it; None and 0 without one."""
    stated = re.match(r'[\r\n]*"?sep=([^\r\n]*?)"?[,;\t|]*(\r\n|\r|\n|$)', text, flags=re.IGNORECASE)
    if stated is None:
        return None, 0
    separator = stated[1] or text[stated.end(1) : stated.end(1) + 1].strip("\r\n")
    if separator not in SEPARATORS:
        known = ", ".join(SEPARATORS.values())
        raise ValueError(f"the sep= line must state one of {known}; got {shown(separator)}. {SAVE_RIGHTLY}")
    return separator, stated.end()


def _records(text: str, separator: str) -> list[tuple[int, int, list[str] | str]]:
    """(row as a spreadsheet counts it, line of the text where it begins, cells), rows of nothing included.

    Where the text cannot be split, the last record holds the reason instead of cells.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    records: list[tuple[int, int, list[str] | str]] = []
    line = 1
    try:
        for cells in reader:
            records.append((len(records) + 1, line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        reason = f"it cannot be split into fields ({error}). Close every quote, and double those inside a text."
        records.append((len(records) + 1, line, reason))
    return records


def _separator(text: str) -> str:
    """The separator that makes most known words of the header; a comma where none does."""
    line = next((line for line in _LINE_END.split(text) if line.strip(" ,;\t|\"'")), "")

    def known(separator: str) -> int:
        cells = [column_name(cell.strip().strip('"')) for cell in line.split(separator)]
        return sum(cell in ("name", "target", "neutral", "strength", "strengths", "method") for cell in cells)

    return max(SEPARATORS, key=known)  # the first of equals


def _header(cells: Sequence[str], where: str, separator: str) -> list[Any]:
    """A key for every column: its name as written, or ``_Unnamed``."""
    names = {column_name(cell) for cell in cells}
    if not names & {"name", "target"}:
        raise ValueError(
            f"its first row must name the columns, among them name and target; {where} holds "
            f"{shown(', '.join(cell.strip() for cell in cells))} (split at {SEPARATORS[separator]})"
        )
    keys: list[Any] = [cell.strip() or _Unnamed(i) for i, cell in enumerate(cells, start=1)]
    seen: set[str] = set()
    for key in keys:
        name = column_name(key)
        if name and name in seen:
            raise ValueError(f"{where} must name each column once; it names {shown(key)} twice. Leave one out")
        seen.add(name)
    return keys


def _read_jsonl(data: bytes) -> list[Row]:
    """One object a line; a line ends at a line feed and at nothing else."""
    rows = []
    for number, line in enumerate(_decoded(data).split("\n"), start=1):
        where = f"line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            rows.append(Row(where, {}, f"it must be one JSON object; {what}. Mend the line."))
            continue
        rows.append(_mapping(value, where))
    return rows


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each of whose fields stands once."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"field {twice!r} stands there twice")
    return dict(pairs)


def _read_yaml(data: bytes) -> list[Row]:
    rows = yaml.safe_load(_decoded(data))
    return _mappings([] if rows is None else rows)


def _read_parquet(data: bytes) -> list[Row]:
    return _mappings(pq.read_table(io.BytesIO(data)).to_pylist())


def _mappings(rows: object) -> list[Row]:
    if not isinstance(rows, list):
        raise ValueError(f"it must hold a list of rows, each with named fields; got {shown(rows)}")
    return [_mapping(row, f"row {number}") for number, row in enumerate(rows, start=1)]


def _mapping(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        return Row(where, {}, f"it must be one row with named fields; got {shown(value)}.")
    return Row(where, value)


_READERS: dict[str, Callable[[bytes], list[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".parquet": _read_parquet,
}
