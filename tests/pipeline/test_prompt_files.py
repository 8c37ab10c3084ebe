import io
import json
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import PromptError
from pipeline.prompts import Prompt, read_prompts

PLAIN = "name,target,neutral,strengths\nglasses,a face with glasses,a face,8\nbeard,a face with a beard,a face,6 10\n"
LINE_SEPARATOR, NEXT_LINE = "\u2028", "\x85"


def read(tmp_path: Path, data: bytes | str, name: str = "p.csv") -> list[Prompt]:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_prompts(str(path), default_neutral="a face")


def refused(tmp_path: Path, data: bytes | str, name: str = "p.csv") -> str:
    with pytest.raises(PromptError) as caught:
        read(tmp_path, data, name)
    assert name in str(caught.value)
    return str(caught.value)


AS_SAVED = {
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "quoted everywhere": "\n".join(
        ";".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.strip().split("\n")
    ),
    "sep comma": "sep=,\n" + PLAIN,
    "sep semicolon": "SEP=;\r\n" + PLAIN.replace(",", ";"),
    "sep tab": "sep=\t\n" + PLAIN.replace(",", "\t"),
    "sep quoted": '"sep=;"\n' + PLAIN.replace(",", ";"),
    "sep saved again": "sep=;;;;\n" + PLAIN.replace(",", ";"),
    "mac": PLAIN.replace("\n", "\r"),
    "windows": PLAIN.replace("\n", "\r\n"),
    "blank first": "\n\n \n" + PLAIN,
    "separators first": ",,,\n" + PLAIN,
    "separators between and after": PLAIN.replace("beard,", ",,,\nbeard,", 1) + ",,,\n , ,,\n\n",
    "unnamed empty columns": "\n".join(line + ",," for line in PLAIN.strip().split("\n")),
    "unnamed empty columns of pandas": PLAIN.replace("strengths", "strengths,Unnamed: 4").replace("8\n", "8,\n"),
    "short rows": PLAIN.replace("\nglasses,a face with glasses,a face,8", "\nglasses,a face with glasses,a face,8"),
    "capitals and spaces": PLAIN.replace("name,target,neutral,strengths", " Name , TARGET,Neutral ,Strengths"),
    "index": "\n".join(f"{n},{line}" for n, line in zip(["", 0, 1], PLAIN.strip().split("\n"), strict=True)),
    "index of a part": "\n".join(f"{n},{line}" for n, line in zip(["", 17, 4], PLAIN.strip().split("\n"), strict=True)),
    "index of pandas, read and saved": "\n".join(
        f"{n},{line}" for n, line in zip(["Unnamed: 0", 0, 1], PLAIN.strip().split("\n"), strict=True)
    ),
    "index by name": "\n".join(
        f"{line},{n}" for n, line in zip(["Index", 1, 2], PLAIN.strip().split("\n"), strict=True)
    ),
}


@pytest.mark.parametrize("kind", AS_SAVED)
def test_read_prompts_csv_as_spreadsheets_save_it_is_read(tmp_path: Path, kind: str):
    wanted = read(tmp_path, PLAIN)
    assert read(tmp_path, AS_SAVED[kind]) == wanted


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_read_prompts_with_byte_order_mark_is_read(tmp_path: Path, encoding: str):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    text = PLAIN.replace(",", "\t").replace("glasses", "\u773c\u93e1").replace("\n", "\r\n")
    assert [p.name for p in read(tmp_path, (mark + text).encode(encoding))] == ["\u773c\u93e1", "beard"]


def test_read_prompts_tsv_is_read(tmp_path: Path):
    assert len(read(tmp_path, PLAIN.replace(",", "\t"), "p.TSV")) == 2


def test_read_prompts_underscored_column_with_spaces_is_read(tmp_path: Path):
    text = "Name,Target,Num Channels,Relevance-Threshold\nhat,a hat,7,\ncap,a cap,,0.2\n"
    assert [(p.num_channels, p.relevance_threshold) for p in read(tmp_path, text)] == [(7, None), (None, 0.2)]


def test_read_prompts_rows_cut_after_the_last_filled_cell_are_read(tmp_path: Path):
    assert [p.name for p in read(tmp_path, "name,target,neutral,strengths\nhat,a hat\ncap,a cap,a face\n")] == [
        "hat",
        "cap",
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("name,target\ncaf\xe9,a hat".encode("cp1252"), ["0xE9 in line 2", "'\xe9'", "CSV UTF-8 (comma delimited)"]),
        ("name,target\rhat,a hat\rcap,na\xefve".encode("cp1252"), ["byte 0xEF in line 3", "CSV UTF-8"]),
        (PLAIN.encode("utf-16-le"), ["zero byte", "UTF-16 without a byte-order mark", "CSV UTF-8"]),
        (PLAIN.encode("utf-16")[:-1], ["UTF-16", "damaged", "CSV UTF-8"]),
        (b"PK\x03\x04rest", ["a workbook", "CSV UTF-8"]),
        (b"PAR1rest", ["a Parquet file"]),
        ("sep=x\nname,target\n", ["sep= line must state one of commas, semicolons, tabs", "'x'"]),
        ("My prompts,,\nname,target,\nhat,a hat,\n", ["line 1 holds 'My prompts, , '", "name the columns"]),
        ("name,target,Name\nhat,a hat,b\n", ["names 'Name' twice"]),
        ("name,target\nhat,a hat\ncap,a, cap\n", ["line 3: ", "3 fields where the header names 2", "'cap'"]),
        ("name,target,strengths\nhat,a hat,6,5\n", ["line 2: ", "write 6.5 with a point"]),
        ('name,target\nhat,a hat\n"cap,a cap\n', ["line 3: ", "Close every quote"]),
        ('name,target\nhat,"a "red" hat"\n', ["line 2: ", "Close every quote"]),
        ("name,target,\nhat,a hat,\ncap,a cap,7 8\n", ["line 3", "column 3 must have a name", "it holds '7 8'"]),
        (",name,target\n8,hat,a hat\n8,cap,a cap\n", ["column 1 must have a name or be empty; it holds '8'"]),
        ("name,target,strenght\nhat,a hat,8\n", ["line 1: unknown column 'strenght'", "Is 'strength' meant?"]),
        ("\n\nname,target,tarket\nhat,a hat,\ncap,,8\n", ["line 3: unknown column 'tarket'", "line 5: `target`"]),
        ("sep=,\nname,target,tarket\nhat,a hat,8\n", ["line 1 (line 2 of the file): unknown column 'tarket'"]),
        ("name;target;strengths\nhat;a hat;6,5\n", ["line 2: ", "the one number 6.5", "the two numbers 6 and 5"]),
        ("\n\nname,target\n\nhat,\n", ["line 5: `target` must be given"]),
        ("sep=,\nname,target\nhat,\n", ["line 2 (line 3 of the file): `target` must be given"]),
        ('name,target\nhat,"a\nred\nhat"\ncap,\n', ["line 3 (line 5 of the file): `target` must be given"]),
    ],
)  # fmt: skip
def test_read_prompts_csv_that_cannot_be_read_says_what_and_where(tmp_path: Path, data: bytes | str, words: list[str]):
    message = refused(tmp_path, data)
    for word in words:
        assert word in message


def test_read_prompts_csv_tells_every_row(tmp_path: Path):
    message = refused(tmp_path, "name,target,colour\nhat,,red\n\ncap,a, cap,x\nfez,a fez,\nfez,a fez,\n")
    assert [line.split(":")[0].strip() for line in message.split("\n")[1:]] == ["line 1", "line 2", "line 4", "line 6"]


@pytest.mark.parametrize("suffix", [".xlsx", ".ods", ".txt"])
def test_read_prompts_spreadsheet_file_says_how_to_save_it(tmp_path: Path, suffix: str):
    assert "CSV UTF-8 (comma delimited)" in refused(tmp_path, b"x", f"p{suffix}")


@pytest.mark.parametrize("inside", [LINE_SEPARATOR, NEXT_LINE, "\u2029"])
def test_read_prompts_json_lines_end_at_line_feeds_only(tmp_path: Path, inside: str):
    lines = [json.dumps({"name": n, "target": f"a{inside}hat"}, ensure_ascii=False) for n in ("a", "b")]
    prompts = read(tmp_path, "\n".join(lines), "p.jsonl")
    assert [p.name for p in prompts] == ["a", "b"]
    assert prompts[0].target == f"a{inside}hat"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.jsonl", '{"name": "a", "target": "b"}\n\n{"name": }\n[1]\n', ["line 3: ", "line 4: "]),
        ("p.jsonl", '{"name": "a", "name": "b", "target": "c"}', ["line 1: ", "'name' stands there twice"]),
        ("p.jsonl", '[{"name": "a", "target": "b"}]', ["line 1: it must be one row with named fields"]),
        ("p.jsonl", '{"a":' * 100_000, ["line 1: "]),
        ("p.jsonl", '{"name": 1e999, "target": "b"}', ["`name` must be text; got inf"]),
        ("p.yaml", "prompts:\n- name: a\n", ["a list of rows", "got a dict of 1"]),
        ("p.yaml", "- name: no\n  target: a hat\n", ["`name` must be text; got False"]),
        ("p.yaml", "- name: [a\n", ["readable .yaml"]),
        ("p.yaml", "[" * 1_000, ["nested too deeply"]),
        ("p.yaml", "- &a\n  name: *a\n  target: [*a]\n", ["`name` must be text; got a dict of 2"]),
        ("p.yaml", "- name: a\n  target: b\n  num_channels: 0x" + "f" * 9_000, ["thousands of digits"]),
        ("p.yaml", "- 1: c\n  name: a\n  target: b\n", ["unknown column 1"]),
        ("p.yaml", "- name: a\n  target: 2001-99-99\n", ["readable .yaml"]),
        ("p.yaml", "- !!python/object:os.system {}\n", ["readable .yaml"]),
    ],
)
def test_read_prompts_text_that_is_no_list_says_what(tmp_path: Path, name: str, text: str, words: list[str]):
    message = refused(tmp_path, text, name)
    for word in words:
        assert word in message


def test_read_prompts_parquet_with_index_empty_rows_and_nan_is_read(tmp_path: Path):
    frame = pd.DataFrame(
        {
            "Name": ["hat", None, "cap"],
            "target": ["a hat", None, "a cap"],
            "strengths": [2.0, float("nan"), float("nan")],
        },
        index=[5, 7, 9],
    )
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    assert [(p.name, p.strengths) for p in read(tmp_path, buffer.getvalue(), "p.parquet")] == [
        ("hat", (2.0,)),
        ("cap", None),
    ]


def test_read_prompts_parquet_of_wrong_types_says_which(tmp_path: Path):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"name": [1], "target": [b"a hat"], "strengths": [[[1.0]]]}), buffer)
    message = refused(tmp_path, buffer.getvalue(), "p.parquet")
    assert [word in message for word in ("`name` must be text; got 1", "`target` must be text", "`strengths` must be")]


def test_read_prompts_damaged_parquet_is_named(tmp_path: Path):
    buffer = io.BytesIO()
    pd.DataFrame({"name": ["hat"], "target": ["a hat"]}).to_parquet(buffer)
    data = bytearray(buffer.getvalue())
    data[8:40] = b"\xff" * 32
    assert "readable .parquet" in refused(tmp_path, bytes(data), "p.parquet")


CELLS = st.one_of(
    st.sampled_from(
        ["", "a face", "a hat", "6,5", "6 10", "1e999", "-3", "0.1", "global", "mapper", '"', "nan", "\u773c", "\ufeff"]
    ),
    st.text(max_size=8),
)
HEADS = st.sampled_from(
    ["name", "target", "neutral", "strengths", "num_channels", "method", "", "Unnamed: 0", "x", "NAME "]
)
TABLES = st.builds(
    lambda start, heads, rows, sep, end: start + end.join(sep.join(row) for row in [heads, *rows]),
    st.sampled_from(["", "sep=;\n", "\ufeff", "\n\n", ",,,\n"]),
    st.lists(HEADS, min_size=1, max_size=5),
    st.lists(st.lists(CELLS, max_size=6), max_size=5),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HEADS, inner, max_size=4),
    max_leaves=8,
)
LINES = st.lists(st.dictionaries(HEADS, JSONS, max_size=5) | JSONS, max_size=4).map(
    lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
)
FILES = st.one_of(
    st.tuples(st.sampled_from(["p.csv", "p.tsv"]), TABLES | st.text(max_size=60)),
    st.tuples(st.just("p.jsonl"), LINES | st.text(max_size=60)),
    st.tuples(st.just("p.yaml"), st.lists(JSONS, max_size=4).map(json.dumps) | st.text(max_size=60)),
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
RAW = st.tuples(st.sampled_from(["p.csv", "p.jsonl", "p.yaml", "p.parquet"]), st.binary(max_size=80))


@given(st.tuples(FILES, ENCODINGS) | st.tuples(RAW, st.just("")))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_read_prompts_any_file_gives_prompts_or_a_prompt_error(case: tuple[tuple[str, str | bytes], str]):
    (name, content), encoding = case
    data = (
        content
        if isinstance(content, bytes)
        else content.encode(encoding, errors="surrogatepass" if encoding.startswith("utf") else "replace")
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            prompts = read(Path(folder), data, name)
        except PromptError as error:
            str(error).encode()  # can be shown
        else:
            assert len({p.prompt_id for p in prompts}) == len(prompts) > 0
