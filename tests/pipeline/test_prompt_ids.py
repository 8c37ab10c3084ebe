import re

import pytest

from pipeline.prompt_ids import prompt_id, prompt_ids
from pipeline.prompts import check_prompts

# sha256 of the name's NFC form in UTF-8, first 8 digits: checked with `printf 'NAME' | sha256sum`
GOLDEN = {
    "glasses": "glasses",
    "Red hair!": "red-hair",
    "smiling with glasses and a mohawk": "smiling-with-glasses-and-a-mohawk",
    "\u773c\u93e1": "prompt-48aa98ed",
    "\u043e\u0447\u043a\u0438": "prompt-d7ab0767",
    "glasses \U0001f60e": "glasses-b0c6435d",
}
NAMES = [
    *(
        "\u773c\u93e1",
        "\u043e\u0447\u043a\u0438",
        "\u0646\u0638\u0627\u0631\u0627\u062a",
        "caf\u00e9",
        "caf\u00e8",
        "cafe",
    ),
    *(
        "+glasses",
        "-glasses",
        "glasses",
        "glasses+",
        "C#",
        "C++",
        "C",
        "c",
        "\u2605",
        "???",
        "!!!",
        "\u0130",
        "\u00df",
        "ss",
    ),
    *("x" * 80 + "a", "x" * 80 + "b"),
]


@pytest.mark.parametrize(("name", "wanted"), GOLDEN.items())
def test_prompt_id_is_the_same_on_every_machine(name: str, wanted: str):
    assert prompt_id(name) == wanted


@pytest.mark.parametrize("name", ["-glasses", "+glasses", "glasses+", "#glasses", "gl\u00e4sses", "\uff47lasses"])
def test_prompt_id_of_a_name_with_more_than_punctuation_is_never_the_plain_ones(name: str):
    assert prompt_id(name) not in ("glasses", "gl-sses", "lasses")


def test_prompt_ids_names_of_any_script_are_distinct_and_file_safe():
    ids = prompt_ids(NAMES)
    assert len(set(ids)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one) for one in ids)


def test_prompt_ids_do_not_depend_on_the_order_of_the_list():
    assert dict(zip(NAMES, prompt_ids(NAMES), strict=True)) == dict(
        zip(NAMES[::-1], prompt_ids(NAMES[::-1]), strict=True)
    )


def test_prompt_ids_of_one_slug_leave_it_to_the_name_that_is_it():
    assert prompt_ids(["Hat!", "hat"])[1] == "hat"
    assert prompt_ids(["Hat!"]) == ["hat"]


def test_prompt_id_of_composed_and_decomposed_letters_is_one():
    assert prompt_id("caf\u00e9") == prompt_id("cafe\u0301") != prompt_id("cafe")


def test_check_prompts_labels_stay_as_written():
    names = [name.strip() for name in NAMES]
    prompts = check_prompts([{"name": name, "target": "a hat", "neutral": "a face"} for name in names])
    assert [prompt.name for prompt in prompts] == names
    assert [prompt.prompt_id for prompt in prompts] == prompt_ids(names)
