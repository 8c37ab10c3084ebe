"""Prompt lists: rows in, checked prompts out; prompt templates.

A list is checked as a whole before anything runs, and one error names all that is wrong: the row, what must hold, what
was got, the remedy. ``prompt_files`` reads the files, ``prompt_ids`` makes names file-safe.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from pipeline.config import SelectionRule
from pipeline.errors import PromptError
from pipeline.prompt_files import Row, is_given, named, read_rows, shown
from pipeline.prompt_ids import composed, prompt_ids
from pipeline.wants import format_wants, parse_wants
from storage import Store

Method = Literal["global", "mapper", "optimize", "tedigan"]
Kind = Literal["complex", "medium", "simple"]
Settings = Literal["auto", "default"]
WEIGHTS = ("clip_weight", "direction_weight", "l2_weight", "identity_weight")
COLUMNS = (
    *("name", "target", "neutral", "strength", "strengths", "relevance_threshold", "num_channels", "method"),
    *("rule", "settings", "wants", "class"),
    *WEIGHTS,
)
OF_GLOBAL = ("relevance_threshold", "num_channels", "rule", "settings")
ORIGINAL = "original"  # prompt_id of unedited images
PHOTO = "photo"  # prompt_id of the aligned photos that latents were inverted from
RESERVED = {ORIGINAL: "the unedited image", PHOTO: "the photo that a latent was inverted from"}
MOST_PROBLEMS = 20  # told in one message
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", flags=re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+", flags=re.ASCII)  # 6,5 and 1.000,5
_PUBLISHED_WITHOUT = "a photo of many faces."  # the published code leaves this template out, hence 79 of 80


class Prompt(BaseModel):
    """One checked prompt.

    Attributes:
        prompt_id: file-safe name, unique in the list.
        name: as given in the list.
        target: text of the wanted image.
        neutral: text of the image it starts from.
        strengths: one edit each; None means the default. Standard deviations the most relevant channel moves by
            (global), or multiples of the move that was trained or found (all others).
        relevance_threshold: keep channels at or above it; None means by count.
        num_channels: keep this many channels; None means the default.
        rule: which channels; None means the run's.
        settings: auto has rule, channels and strength, as far as they are not given, chosen by trial; None means as
            the run says.
        method: how the edit is found.
        wants: what an oracle must see once the prompt is true, as ``accessories=glasses;head!=hat``; None: read from
            the text.
        kind: complex, medium or simple, the column ``class``; comparisons are summed up by it.
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
    rule: SelectionRule | None = None
    settings: Settings | None = None
    method: Method = "global"
    wants: str | None = None
    kind: Kind | None = None
    clip_weight: float | None = None
    direction_weight: float | None = None
    l2_weight: float | None = None
    identity_weight: float | None = None

    def row(self) -> dict[str, Any]:
        """As a row of a prompt list, from which ``check_prompts`` makes the same prompt."""
        fields = self.model_dump(exclude={"prompt_id", "kind"}) | {"class": self.kind}
        return {key: value for key, value in fields.items() if value is not None}


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
    ``rule`` and ``settings`` (auto or default, of global prompts), ``method`` (global if left out), ``wants`` (see
    ``pipeline.wants``), ``class`` (complex, medium or simple), ``clip_weight``, ``direction_weight``, ``l2_weight``,
    ``identity_weight``.
    Capitals in a column's name, and spaces or dashes for underscores, do not matter.

    Args:
        uri: path or fsspec URI ending in .csv, .tsv, .jsonl, .yaml, .yml or .parquet.
        default_neutral: neutral text of prompts that give none.
    Raises:
        PromptError: if the list is empty, unreadable, or any row is not usable; names all that is wrong.
        storage.MissingError: if there is no such file.
    """
    store, name = Store.of_file(uri)
    return _checked(read_rows(uri, store.read_bytes(name)), uri, default_neutral)


def check_prompts(
    rows: Iterable[Mapping[str, Any]], *, source: str = "prompts", default_neutral: str | None = None
) -> list[Prompt]:
    """Check rows of a prompt list; see ``read_prompts``. ``source`` names the list in errors."""
    return _checked([Row(f"row {i}", row) for i, row in enumerate(rows, start=1)], source, default_neutral)


class _ProblemError(PromptError):
    """One thing that is wrong with one row; what the user sees is the ``PromptError`` of the whole list."""


def _checked(rows: Sequence[Row], source: str, default_neutral: str | None) -> list[Prompt]:
    """The prompts of a list, or one error with all its problems."""
    kept, problems = named(rows, COLUMNS)
    if not kept and not problems:
        raise PromptError(f"{source}: a prompt list needs at least one row; got none. Add rows with name and target.")
    checked = [_check_row(row.values, default_neutral) for row in kept]
    problems += [(row.where, text) for row, (_, found) in zip(kept, checked, strict=True) for text in found]
    names = [str(fields.get("name", "")) for fields, _ in checked]
    problems += _repeated(names, [row.where for row in kept])
    ids = prompt_ids(names)
    problems += [
        (row.where, f"a name must not be {given!r}, which is {RESERVED[given]}; got {name!r}.")
        for row, name, given in zip(kept, names, ids, strict=True)
        if given in RESERVED
    ]
    if problems:
        raise PromptError(_told(source, problems, [row.where for row in rows]))
    return [Prompt(prompt_id=given, **fields) for given, (fields, _) in zip(ids, checked, strict=True)]


def _repeated(names: Sequence[str], places: Sequence[str]) -> list[tuple[str, str]]:
    """A problem for every name that an earlier row has."""
    seen: dict[str, str] = {}
    problems = []
    for name, where in zip(names, places, strict=True):
        key = composed(name)
        if name and key in seen:
            text = f"every prompt needs its own name; name {shown(name)} is already {seen[key]}'s. Rename one."
            problems.append((where, text))
        seen.setdefault(key, where)
    return problems


def _told(source: str, problems: Sequence[tuple[str, str]], places: Sequence[str]) -> str:
    """All problems in the order of the rows, the header's first; one stands in the same line as the list's name."""
    order = {where: i for i, where in enumerate(places)}
    lines = [f"{where}: {text}" for where, text in sorted(problems, key=lambda x: order.get(x[0], -1))]
    if len(lines) == 1:
        return f"{source}, {lines[0]}"
    left = len(lines) - MOST_PROBLEMS
    more = [f"and {left} more."] if left > 0 else []
    return "\n  ".join([f"{source}: {len(lines)} problems.", *lines[:MOST_PROBLEMS], *more])


def _check_row(row: Mapping[str, Any], default_neutral: str | None) -> tuple[dict[str, Any], list[str]]:
    """Fields of a ``Prompt`` without its id, and all that is wrong with them."""
    readers: dict[str, Callable[[], Any]] = {
        "name": lambda: _text(row, "name"),
        "target": lambda: _text(row, "target"),
        "neutral": lambda: _text(row, "neutral", default=default_neutral),
        "strengths": lambda: _strengths(row),
        "relevance_threshold": lambda: _number(row, "relevance_threshold", low=0.0, high=1.0),
        "num_channels": lambda: _count(row, "num_channels"),
        "rule": lambda: _one_of(row, "rule", get_args(SelectionRule)),
        "settings": lambda: _one_of(row, "settings", get_args(Settings)),
        "method": lambda: _method(row),
        "wants": lambda: _wants(row),
        "kind": lambda: _one_of(row, "class", get_args(Kind)),
        **{key: lambda key=key: _number(row, key, low=0.0, high=math.inf) for key in WEIGHTS},
    }
    fields: dict[str, Any] = {}
    problems = []
    for key, read in readers.items():
        try:
            fields[key] = read()
        except PromptError as problem:
            problems.append(str(problem))
    target, neutral = (" ".join(str(fields.get(key, key)).lower().split()) for key in ("target", "neutral"))
    if target == neutral:
        problems.append(
            f"target and neutral must differ, their difference is the edit; both are {shown(fields['target'])}. "
            f"Make the neutral text describe the image before the edit, e.g. 'a face'."
        )
    for one, other in (("strength", "strengths"), ("relevance_threshold", "num_channels")):
        if is_given(row.get(one)) and is_given(row.get(other)):
            problems.append(f"give `{one}` or `{other}`, not both.")
    return fields, problems


def _method(row: Mapping[str, Any]) -> Method:
    """The method, with no column given that it does not read."""
    name = str(row["method"]).strip().lower() if is_given(row.get("method")) else "global"
    known: tuple[Method, ...] = get_args(Method)
    if name not in known:
        raise _ProblemError(f"`method` must be one of {', '.join(known)}; got {shown(row['method'])}.")
    method = known[known.index(name)]
    for key in {"global": WEIGHTS, "tedigan": (*OF_GLOBAL, *WEIGHTS)}.get(method, OF_GLOBAL):
        if is_given(row.get(key)):
            raise _ProblemError(f"method {method!r} does not read `{key}`; got {shown(row[key])}. Leave it empty.")
    return method


def _wants(row: Mapping[str, Any]) -> str | None:
    """Wants in their plain form; whether the oracle knows them only the pack can say."""
    if not is_given(row.get("wants")):
        return None
    try:
        return format_wants(parse_wants(_text(row, "wants")))
    except PromptError as error:
        raise _ProblemError(str(error)) from error


def _one_of(row: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str | None:
    """A word of a short list, in any capitals, or nothing."""
    if not is_given(row.get(key)):
        return None
    name = str(row[key]).strip().lower()
    if name not in known:
        raise _ProblemError(f"`{key}` must be one of {', '.join(known)} or empty; got {shown(row[key])}.")
    return name


def _text(row: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    value = row.get(key)
    if not is_given(value):
        if default is not None:
            return default
        raise _ProblemError(f"`{key}` must be given; got nothing. Fill it in.")
    if not isinstance(value, str):
        raise _ProblemError(f"`{key}` must be text; got {shown(value)}. Put it in quotes.")
    kinds = {unicodedata.category(character) for character in value if not character.isspace()}
    if kinds & {"Cc", "Cs"} or all(kind.startswith(("C", "Z")) for kind in kinds):
        raise _ProblemError(f"`{key}` must be text that can be seen; got {shown(value)}. Type it anew.")
    return value.strip()


def _float(value: object, key: str) -> float:
    if isinstance(value, str):
        value = value.strip().replace("\u2212", "-")  # a typographer's minus
    readable = _NUMBER.fullmatch(value) if isinstance(value, str) else not isinstance(value, bool)
    try:
        number = float(value) if readable else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        comma = ""
        if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
            comma = f" If {_with_point(value)} is meant, write it so."
        raise _ProblemError(f"`{key}` must be a finite number; got {shown(value)}.{comma}")
    return number


def _with_point(number: str) -> str:
    """A number with a decimal comma as Python writes it."""
    return number.replace(".", "").replace(",", ".")


def _number(row: Mapping[str, Any], key: str, *, low: float, high: float) -> float | None:
    if not is_given(row.get(key)):
        return None
    number = _float(row[key], key)
    if not low <= number <= high:
        raise _ProblemError(f"`{key}` must be in [{low:g}, {high:g}]; got {number:g}.")
    return number


def _count(row: Mapping[str, Any], key: str) -> int | None:
    if not is_given(row.get(key)):
        return None
    number = _float(row[key], key)
    if number < 1 or number != int(number):
        raise _ProblemError(f"`{key}` must be a whole number from 1; got {shown(row[key])}.")
    return int(number)


def _strengths(row: Mapping[str, Any]) -> tuple[float, ...] | None:
    key = "strengths" if is_given(row.get("strengths")) else "strength"
    value = row.get(key)
    if not is_given(value):
        return None
    parts: Sequence[object]
    if isinstance(value, str):
        parts = _parts(value.strip(), key)
    else:
        parts = list(value) if isinstance(value, (list, tuple)) else [value]
    numbers = tuple(_float(part, key) for part in parts)
    if not numbers:
        raise _ProblemError(f"`{key}` must hold at least one number; got {shown(value)}.")
    if len(set(numbers)) < len(numbers) or 0.0 in numbers:
        raise _ProblemError(
            f"strengths must differ from each other and from 0, which is the original; got {shown(value)}."
        )
    return numbers


def _parts(text: str, key: str) -> list[str]:
    """The numbers of a text, unless one of its commas may be a decimal comma."""
    has_point = re.search(r"\d\.\d", text) is not None
    for part in re.split(r"[\s;]+", text):
        if _DECIMAL_COMMA.fullmatch(part) and ("." in part or not has_point):
            one, two = _with_point(part), part.replace(",", " ")
            raise _ProblemError(
                f"`{key}` must be clear; {part!r} in {shown(text)} can be the one number {one} (a decimal comma) or "
                f"the two numbers {two.replace(' ', ' and ')}. Write {one}, or {two} with a space between."
            )
    return [part for part in re.split(r"[\s,;]+", text) if part]
