from collections import Counter
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter

from flows.cli import load_commands
from flows.commands import Command, Request, fill_places
from flows.parameter_groups import GROUPS, group_of
from flows.parameters import REQUIRED, Parameter, WithoutNull
from flows.run_names import place_name, run_name
from pipeline.errors import ParameterError

WHEN = datetime(2026, 3, 9, 2, 5)


def small_command() -> Command:
    parameters = (
        Parameter("count", Annotated[int, Field(ge=1)], 3, "How many."),
        Parameter("run", str, REQUIRED, "Where.", place=True),
        Parameter("title", str | None, None, "Not a place.", shown="none"),
    )
    return Command("make-things", "Things.", lambda request: dict(request.values), parameters)


def test_command_fills_in_defaults_and_takes_positions():
    assert small_command()("here") == {"run": "here", "count": 3, "title": None}


def test_command_names_every_problem_at_once():
    with pytest.raises(ParameterError) as caught:
        small_command().check({"cuont": 2, "count": 0})
    text = str(caught.value)
    assert "unknown parameter `cuont`; did you mean `count`?" in text
    assert "`count`: input should be greater than or equal to 1; got 0" in text
    assert "`run` must be given" in text


def test_places_are_filled_in_uris_alone():
    request = small_command().check({"run": "out/{date}/{time}-{flow_run}", "title": "{date}"})
    filled = fill_places(request, flow_run="night-1", when=WHEN)
    assert filled["run"] == "out/2026-03-09/020500-night-1"
    assert filled["title"] == "{date}"


@pytest.mark.parametrize("uri", ["{day}", "{", "{0}", "{date.x}"])
def test_other_placeholders_are_refused(uri: str):
    with pytest.raises(ParameterError, match=r"may hold the placeholders \{date\}, \{time\}, \{flow_run\}"):
        fill_places(small_command().check({"run": uri}), flow_run="a", when=WHEN)


def test_docstring_has_every_parameter_with_its_default_in_words():
    assert "    title: Not a place. Default: none." in small_command().docstring()


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (int | None, {"type": "integer"}),
        (int | str | None, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (int, {"type": "integer"}),
    ],
)
def test_a_form_offers_no_null(annotation: Any, schema: dict[str, Any]):
    assert TypeAdapter(Annotated[annotation, WithoutNull()]).json_schema() == schema


@pytest.mark.parametrize("name", load_commands())
def test_parameters_stand_in_groups_one_after_the_other(name: str):
    parameters = load_commands()[name].parameters
    groups = [group for group, _ in groupby(map(group_of, parameters))]
    assert groups == [group for group in GROUPS if group in groups]
    assert (groups[0], groups[-1]) == ("Run", "Work")
    assert max(Counter(map(group_of, parameters)).values()) < 30


def test_steps_hand_on_what_is_the_same_setting_and_not_what_only_shares_a_name():
    commands = load_commands()
    request = commands["edit-dataset"].check({"prompts": "p.csv", "run": "r", "psi": 0.5})
    assert request.shared_with(commands["sample-latents"])["psi"] == 0.5
    assert "mode" not in request.shared_with(commands["optimize-latents"])
    assert request.shared_with(commands["global-directions"])["mode"] == "screened"
    assert isinstance(request, Request)


@pytest.mark.parametrize(
    ("command", "values", "name"),
    [
        ("edit-dataset", {"prompts": [{}] * 200, "num_latents": 50}, "peeps 200 prompts x 50"),
        ("edit-dataset", {"prompts": "lists/hats.csv", "pack": "s3://b/ffhq/", "num_latents": 5}, "ffhq hats.csv x 5"),
        ("sample-latents", {"num_latents": 8}, "peeps sample-latents 8 latents"),
        ("edit-dataset", {"prompts": [{}], "latents": "w.npy", "num_latents": 16}, "peeps 1 prompt"),
    ],
)
def test_runs_are_named_by_what_is_in_them(command: str, values: dict[str, Any], name: str):
    assert run_name(command, values) == name


def test_two_runs_of_one_name_have_places_of_their_own():
    assert place_name("peeps 2 prompts x 3", "12345678-9abc") == "peeps-2-prompts-x-3-12345678"
