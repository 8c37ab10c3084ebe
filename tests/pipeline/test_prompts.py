import io
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.errors import PromptError
from pipeline.prompts import check_prompts, of_method, read_prompts, templates

ROW = {"name": "hat", "target": "a face with a hat", "neutral": "a face"}


def written(tmp_path: Path, suffix: str) -> str:
    rows = [ROW, {"name": "two", "target": "a smile", "neutral": "a face", "strengths": "2, 4.5", "num_channels": 7}]
    path = tmp_path / f"prompts{suffix}"
    if suffix == ".csv":
        frame = pd.DataFrame(rows)
        frame["num_channels"] = frame["num_channels"].astype("Int64")
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    elif suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text(yaml.safe_dump(rows))
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".yaml", ".yml", ".parquet"])
def test_read_prompts_every_format_gives_the_same_prompts(tmp_path: Path, suffix: str):
    first, second = read_prompts(written(tmp_path, suffix))
    assert (first.prompt_id, first.target, first.neutral, first.strengths) == ("hat", ROW["target"], "a face", None)
    assert first.num_channels is None
    assert second.strengths == (2.0, 4.5)
    assert second.num_channels == 7


def test_read_prompts_without_neutral_takes_the_default(tmp_path: Path):
    path = tmp_path / "p.csv"
    path.write_text("name,target\nhat,a face with a hat\n")
    (prompt,) = read_prompts(str(path), default_neutral="a face")
    assert prompt.neutral == "a face"


def test_check_prompts_reads_wants_and_class():
    row = {"name": "hat", "target": "a face with a hat", "neutral": "a face"}
    (prompt,) = check_prompts([row | {"wants": " head = hat | beanie ", "class": "medium"}])
    assert (prompt.wants, prompt.kind) == ("head=hat|beanie", "medium")
    (plain,) = check_prompts([row | {"wants": "", "class": None}])
    assert (plain.wants, plain.kind) == (None, None)
    with pytest.raises(PromptError, match="row 1: `class` must be one of complex, medium, simple or empty; got 'hard'"):
        check_prompts([row | {"class": "hard"}])
    with pytest.raises(PromptError, match="row 1: `wants` must read like"):
        check_prompts([row | {"wants": "a hat"}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neutral": "A face  with a HAT"}, "target and neutral must differ"),
        ({"colour": "red"}, "unknown column 'colour'"),
        ({"name": ""}, "`name` must be given"),
        ({"target": None}, "`target` must be given"),
        ({"target": 3}, "`target` must be text; got 3"),
        ({"name": "\u200b"}, "`name` must be text that can be seen"),
        ({"target": "a \ud800 face"}, "`target` must be text that can be seen"),
        ({"neutral": "a \0 face"}, "`neutral` must be text that can be seen"),
        ({"strengths": "1_0"}, "`strengths` must be a finite number; got '1_0'"),
        ({"strength": 10**5000}, "`strength` must be a finite number; got a number of thousands of digits"),
        ({"relevance_threshold": "0,5"}, "finite number; got '0,5'. If 0.5 is meant, write it so"),
        ({"name": "original"}, "must not be 'original'"),
        ({"strength": "strong"}, "`strength` must be a finite number; got 'strong'"),
        ({"strengths": "1 x"}, "`strengths` must be a finite number; got 'x'"),
        ({"strengths": float("inf")}, "must be a finite number"),
        ({"strengths": [1.0, 1.0]}, "strengths must differ"),
        ({"strength": 0}, "strengths must differ from each other and from 0"),
        ({"strength": 1, "strengths": "2"}, "not both"),
        ({"relevance_threshold": 0.1, "num_channels": 3}, "not both"),
        ({"relevance_threshold": 1.5}, r"must be in \[0, 1\]; got 1.5"),
        ({"num_channels": 0}, "whole number from 1"),
        ({"num_channels": 2.5}, "whole number from 1; got 2.5"),
        ({"method": "magic"}, "`method` must be one of global, mapper, optimize, tedigan; got 'magic'"),
        ({"l2_weight": 0.1}, "method 'global' does not read `l2_weight`; got 0.1"),
        ({"method": "mapper", "num_channels": 3}, "method 'mapper' does not read `num_channels`; got 3"),
        ({"method": "optimize", "l2_weight": -1}, r"`l2_weight` must be in \[0, inf\]; got -1"),
        ({"method": "optimize", "identity_weight": "much"}, "`identity_weight` must be a finite number; got 'much'"),
    ],
)
def test_check_prompts_bad_row_names_source_row_and_remedy(change: dict, message: str):
    good = {"name": "fine", "target": "a smile", "neutral": "a face"}
    with pytest.raises(PromptError, match=message) as caught:
        check_prompts([good, {**ROW, **change}], source="list.csv")
    assert "list.csv, row 2" in str(caught.value)


@pytest.mark.parametrize("second", ["hat", " hat "])
def test_check_prompts_duplicate_name_names_both_rows(second: str):
    with pytest.raises(PromptError, match=r"row 2: every prompt needs its own name.*already row 1's"):
        check_prompts([ROW, {**ROW, "name": second}])


@pytest.mark.parametrize("text", ["name,target\n", ""])
def test_read_prompts_empty_list_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "empty.csv"
    path.write_text(text)
    with pytest.raises(PromptError, match="at least one row; got none"):
        read_prompts(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "must end in .csv, .jsonl"),
        ("a.jsonl", "{not json", "line 1: it must be one JSON object"),
        ("a.yaml", "just text", "a list of rows"),
        ("a.yaml", "- [1, 2]", "row 1: it must be one row with named fields"),
        ("a.csv", "name,target\nhat,a face, with a comma\n", "quote texts with commas"),
        ("a.parquet", "PAR", "readable .parquet"),
    ],
)
def test_read_prompts_unreadable_file_is_named(tmp_path: Path, name: str, content: str, message: str):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(PromptError, match=message) as caught:
        read_prompts(str(path))
    assert name in str(caught.value)


def test_templates_79_is_80_without_the_published_omission():
    full, published = templates("imagenet_80"), templates("imagenet_79")
    assert (len(full), len(published)) == (80, 79)
    assert {t.replace("{}", "faces") for t in set(full) - set(published)} == {"a photo of many faces."}
    assert all(t.count("{}") == 1 for t in full)


def test_templates_unknown_name_lists_the_known():
    with pytest.raises(PromptError, match="imagenet_79, imagenet_80, none; got 'many'"):
        templates("many")


def test_read_prompts_utf8_survives(tmp_path: Path):
    path = tmp_path / "p.csv"
    buffer = io.StringIO("name,target,neutral\ncaf\u00e9,a face \u2603,a face\n")
    path.write_bytes(buffer.getvalue().encode("utf-8-sig"))
    (prompt,) = read_prompts(str(path))
    assert prompt.target == "a face \u2603"


def test_check_prompts_names_method_and_weights_per_prompt():
    rows = [ROW, {**ROW, "name": "b", "method": "optimize", "l2_weight": 0.01, "identity_weight": "0"}]
    first, second = check_prompts(rows)
    assert (first.method, first.l2_weight) == ("global", None)
    assert (second.method, second.clip_weight, second.l2_weight, second.identity_weight) == ("optimize", None, 0.01, 0)
    assert of_method([first, second], "optimize") == [second]


def test_of_method_without_any_says_so():
    with pytest.raises(PromptError, match="at least one prompt with method 'mapper'; all 1 have another"):
        of_method(check_prompts([ROW]), "mapper")


def test_check_prompts_tells_all_problems_in_the_order_of_the_rows():
    rows = [
        {**ROW, "name": "", "strength": "x"},
        ROW,
        {**ROW, "name": "b", "method": "magic", "num_channels": 0},
        {**ROW, "shade": 1},
    ]
    with pytest.raises(PromptError) as caught:
        check_prompts(rows, source="list.csv")
    first, *told = str(caught.value).split("\n  ")
    assert first == "list.csv: 6 problems."
    assert [line.split(":")[0] for line in told] == ["row 1", "row 1", "row 3", "row 3", "row 4", "row 4"]
    assert [line.split()[2] for line in told[:4]] == ["`name`", "`strength`", "`num_channels`", "`method`"]


def test_check_prompts_many_problems_are_counted_and_cut():
    with pytest.raises(PromptError, match=r"25 problems") as caught:
        check_prompts([{**ROW, "name": f"n{i}", "target": ""} for i in range(25)])
    assert str(caught.value).count("\n") == 21
    assert str(caught.value).endswith("and 5 more.")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("6, 10", (6, 10)),
        ("6 10", (6, 10)),
        ("6;10", (6, 10)),
        ("6,8,10", (6, 8, 10)),
        ("2.5,10", (2.5, 10)),
        ("\u22122", (-2,)),
        ("-2,-4", (-2, -4)),
    ],
)
def test_check_prompts_strengths_that_are_clear_are_read(text: str, numbers: tuple[float, ...]):
    assert check_prompts([{**ROW, "strengths": text}])[0].strengths == numbers


@pytest.mark.parametrize(
    ("text", "one", "two"),
    [
        ("6,5", "6.5", "6 5"),
        ("8 6,5", "6.5", "6 5"),
        ("6,5;8", "6.5", "6 5"),
        ("-6,5", "-6.5", "-6 5"),
        ("1.000,5", "1000.5", "1.000 5"),
    ],
)
def test_check_prompts_possible_decimal_comma_is_asked_about(text: str, one: str, two: str):
    with pytest.raises(PromptError, match=f"Write {one}, or {two} with a space") as caught:
        check_prompts([{**ROW, "strengths": text}])
    assert f"the one number {one}" in str(caught.value)


def test_check_prompts_reads_rule_and_settings_of_global_prompts_in_any_capitals():
    (prompt,) = check_prompts([{"name": "a", "target": "b", "neutral": "c", "rule": "Pursuit", "settings": " AUTO "}])
    assert (prompt.rule, prompt.settings) == ("pursuit", "auto")
    assert prompt.row()["rule"] == "pursuit"
    with pytest.raises(PromptError, match=r"`settings` must be one of auto, default or empty; got 'best'"):
        check_prompts([{"name": "a", "target": "b", "neutral": "c", "settings": "best"}])
    with pytest.raises(PromptError, match=r"method 'mapper' does not read `rule`"):
        check_prompts([{"name": "a", "target": "b", "neutral": "c", "rule": "paper", "method": "mapper"}])
