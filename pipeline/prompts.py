"""Prompt lists: CSV, JSON Lines, YAML or Parquet in, checked prompts out; prompt templates.

A list is checked as a whole before anything runs, and an error names the file, the row and the remedy.
"""

import csv
import io
import json
import math
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict

from pipeline.errors import PromptError
from storage import Store

Method = Literal["global", "mapper", "optimize"]
WEIGHTS = ("clip_weight", "direction_weight", "l2_weight", "identity_weight")
COLUMNS = (
    *("name", "target", "neutral", "strength", "strengths", "relevance_threshold", "num_channels", "method"),
    *WEIGHTS,
)
ORIGINAL = "original"  # prompt_id of unedited images
_PUBLISHED_WITHOUT = "a photo of many faces."  # the published code leaves this template out, hence 79 of 80


class Prompt(BaseModel):
    """One checked prompt.

    Attributes:
        prompt_id: file-safe name, unique in the list.
        name: as given in the list.
        target: text of the wanted image.
        neutral: text of the image it starts from.
        strengths: one edit each; None means the default. Standard deviations the most relevant channel moves by
            (global), or multiples of the move that was trained or found (mapper, optimize).
        relevance_threshold: keep channels at or above it; None means by count.
        num_channels: keep this many channels; None means the default.
        method: how the edit is found.
        clip_weight: weight of the CLIP distance to the target; None means the method's default, here and below.
        direction_weight: weight of the directional CLIP loss.
        l2_weight: weight of the squared distance to the source latent.
        identity_weight: weight of the identity loss; low or 0 where the prompt changes who it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_id: str
    name: str
    target: str
    neutral: str
    strengths: tuple[float, ...] | None = None
    relevance_threshold: float | None = None
    num_channels: int | None = None
    method: Method = "global"
    clip_weight: float | None = None
    direction_weight: float | None = None
    l2_weight: float | None = None
    identity_weight: float | None = None

    def row(self) -> dict[str, Any]:
        """As a row of a prompt list, from which ``check_prompts`` makes the same prompt."""
        return {key: value for key, value in self.model_dump().items() if key != "prompt_id" and value is not None}


def of_method(prompts: Sequence[Prompt], method: Method) -> list[Prompt]:
    """The prompts of one method, in list order.

    Raises:
        PromptError: if there is none.
    """
    chosen = [prompt for prompt in prompts if prompt.method == method]
    if not chosen:
        raise PromptError(
            f"the prompt list needs at least one prompt with method {method!r}; all {len(prompts)} have another. "
            f"Fill in the column `method`, or leave this step out."
        )
    return chosen


def templates(name: str) -> tuple[str, ...]:
    """Prompt templates with one ``{}`` each.

    ``imagenet_80`` is CLIP's zero-shot list as open_clip ships it; ``imagenet_79`` leaves out the one that the
    published StyleCLIP code has commented out; ``none`` is the bare prompt.

    Raises:
        PromptError: for another name.
    """
    from open_clip import OPENAI_IMAGENET_TEMPLATES  # here, so that what needs no CLIP does not load open_clip

    full = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    chosen = {
        "imagenet_80": full,
        "imagenet_79": tuple(t for t in full if t.replace("{}", "faces") != _PUBLISHED_WITHOUT),
        "none": ("{}",),
    }
    if name not in chosen:
        raise PromptError(f"`templates` must be one of {', '.join(sorted(chosen))}; got {name!r}.")
    return chosen[name]


def read_prompts(uri: str, *, default_neutral: str | None = None) -> list[Prompt]:
    """Read and check a prompt list.

    Columns: ``name``, ``target``; optional ``neutral`` (the pack's default otherwise), ``strength`` or ``strengths``
    (a number, or several separated by spaces, commas or semicolons), ``relevance_threshold`` or ``num_channels``,
    ``method`` (global if left out), ``clip_weight``, ``direction_weight``, ``l2_weight``, ``identity_weight``.

    Args:
        uri: path or fsspec URI ending in .csv, .jsonl, .yaml, .yml or .parquet.
        default_neutral: neutral text of prompts that give none.
    Raises:
        PromptError: if the list is empty, unreadable, or any row is not usable.
        storage.MissingError: if there is no such file.
    """
    folder, name = posixpath.split(uri)
    data = Store(folder or ".").read_bytes(name)
    return check_prompts(_parse(uri, data), source=uri, default_neutral=default_neutral)


def check_prompts(
    rows: Iterable[Mapping[str, Any]], *, source: str = "prompts", default_neutral: str | None = None
) -> list[Prompt]:
    """Check rows of a prompt list; see ``read_prompts``. ``source`` names the list in errors."""
    prompts: list[Prompt] = []
    names: dict[str, int] = {}
    ids: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{source}, row {number}"
        prompt = _check_row(row, where, default_neutral)
        for value, seen, what in ((prompt.name, names, "name"), (prompt.prompt_id, ids, "file-safe name")):
            if value in seen:
                raise PromptError(
                    f"{where}: every prompt needs its own name; {what} {value!r} is already row {seen[value]}'s. "
                    f"Rename one."
                )
            seen[value] = number
        prompts.append(prompt)
    if not prompts:
        raise PromptError(f"{source}: a prompt list needs at least one row; got none. Add rows with name and target.")
    return prompts


def slug(name: str) -> str:
    """File-safe form of a name: lower case letters, digits and dashes; empty where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]


def _parse(uri: str, data: bytes) -> list[Mapping[str, Any]]:
    kind = posixpath.splitext(uri)[1].lower()
    readers = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
        ".parquet": _read_parquet,
    }
    if kind not in readers:
        raise PromptError(
            f"{uri}: a prompt list must end in {', '.join(sorted(readers))}; got {kind or 'no ending'!r}."
        )
    try:
        return readers[kind](data)
    except (ValueError, yaml.YAMLError, csv.Error, pa.ArrowException) as error:
        detail = " ".join(str(error).split())[:200]
        raise PromptError(f"{uri}: must be a readable {kind} prompt list; {detail}. Mend the file.") from error


def _read_csv(data: bytes) -> list[Mapping[str, Any]]:
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), skipinitialspace=True, strict=True)
    out: list[Mapping[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has another number of fields than the header; quote texts with commas")
        out.append({k.strip(): v for k, v in row.items()})
    return out


def _read_jsonl(data: bytes) -> list[Mapping[str, Any]]:
    rows = [json.loads(line) for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    return _mappings(rows)


def _read_yaml(data: bytes) -> list[Mapping[str, Any]]:
    rows = yaml.safe_load(data)
    return _mappings([] if rows is None else rows)


def _read_parquet(data: bytes) -> list[Mapping[str, Any]]:
    return _mappings(pq.read_table(io.BytesIO(data)).to_pylist())


def _mappings(rows: object) -> list[Mapping[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it must hold a list of rows, each with named fields")
    return rows


def _check_row(row: Mapping[str, Any], where: str, default_neutral: str | None) -> Prompt:
    unknown = [str(k) for k in row if k not in COLUMNS]
    if unknown:
        raise PromptError(f"{where}: unknown column {unknown[0]!r}. Known columns are {', '.join(COLUMNS)}.")
    name, target = _text(row, "name", where), _text(row, "target", where)
    neutral = _text(row, "neutral", where, default=default_neutral)
    if " ".join(target.lower().split()) == " ".join(neutral.lower().split()):
        raise PromptError(
            f"{where}: target and neutral must differ, their difference is the edit; both are {target!r}. "
            f"Make the neutral text describe the image before the edit, e.g. 'a face'."
        )
    prompt_id = slug(name)
    if not prompt_id or prompt_id == ORIGINAL:
        raise PromptError(f"{where}: a name needs a letter or digit and must not be {ORIGINAL!r}; got {name!r}.")
    if _given(row, "strength") and _given(row, "strengths"):
        raise PromptError(f"{where}: give `strength` or `strengths`, not both.")
    if _given(row, "relevance_threshold") and _given(row, "num_channels"):
        raise PromptError(f"{where}: give `relevance_threshold` or `num_channels`, not both.")
    method = _method(row, where)
    return Prompt(
        prompt_id=prompt_id,
        name=name,
        target=target,
        neutral=neutral,
        strengths=_strengths(row, where),
        relevance_threshold=_number(row, "relevance_threshold", where, low=0.0, high=1.0),
        num_channels=_count(row, "num_channels", where),
        method=method,
        **{key: _number(row, key, where, low=0.0, high=math.inf) for key in WEIGHTS},
    )


def _method(row: Mapping[str, Any], where: str) -> Method:
    """The method, with no column given that it does not read."""
    name = str(row["method"]).strip() if _given(row, "method") else "global"
    known: tuple[Method, ...] = get_args(Method)
    if name not in known:
        raise PromptError(f"{where}: `method` must be one of {', '.join(known)}; got {name!r}.")
    method = known[known.index(name)]
    for key in WEIGHTS if method == "global" else ("relevance_threshold", "num_channels"):
        if _given(row, key):
            raise PromptError(f"{where}: method {method!r} does not read `{key}`; got {row[key]!r}. Leave it empty.")
    return method


def _given(row: Mapping[str, Any], key: str) -> bool:
    value = row.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return not (isinstance(value, str) and not value.strip())


def _text(row: Mapping[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    if not _given(row, key):
        if default is not None:
            return default
        raise PromptError(f"{where}: `{key}` must be given; got nothing. Fill it in.")
    value = row[key]
    if not isinstance(value, str):
        raise PromptError(f"{where}: `{key}` must be text; got {value!r}. Put it in quotes.")
    return value.strip()


def _float(value: object, key: str, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise PromptError(f"{where}: `{key}` must be a finite number; got {value!r}.")
    return number


def _number(row: Mapping[str, Any], key: str, where: str, *, low: float, high: float) -> float | None:
    if not _given(row, key):
        return None
    number = _float(row[key], key, where)
    if not low <= number <= high:
        raise PromptError(f"{where}: `{key}` must be in [{low:g}, {high:g}]; got {number:g}.")
    return number


def _count(row: Mapping[str, Any], key: str, where: str) -> int | None:
    if not _given(row, key):
        return None
    number = _float(row[key], key, where)
    if number < 1 or number != int(number):
        raise PromptError(f"{where}: `{key}` must be a whole number from 1; got {row[key]!r}.")
    return int(number)


def _strengths(row: Mapping[str, Any], where: str) -> tuple[float, ...] | None:
    key = "strengths" if _given(row, "strengths") else "strength"
    if not _given(row, key):
        return None
    value = row[key]
    parts: Sequence[object]
    if isinstance(value, str):
        parts = [part for part in re.split(r"[\s,;]+", value.strip()) if part]
    else:
        parts = list(value) if isinstance(value, (list, tuple)) else [value]
    numbers = tuple(_float(part, key, where) for part in parts)
    if not numbers:
        raise PromptError(f"{where}: `{key}` must hold at least one number; got {value!r}.")
    if len(set(numbers)) < len(numbers) or 0.0 in numbers:
        raise PromptError(
            f"{where}: strengths must differ from each other and from 0, which is the original; got {value!r}."
        )
    return numbers
