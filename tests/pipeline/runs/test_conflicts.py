import pytest

import storage
from pipeline.config import LatentsConfig
from pipeline.packs.pack import Pack
from pipeline.runs.conflicts import check_grows, check_same_settings, is_closed
from pipeline.runs.growth import EARLIER
from storage import ConflictError, Store

CONFIG = LatentsConfig(num_latents=4)
OTHER = "0123456789abcdef"


def close(store: Store, pack: Pack, **facts: object) -> None:
    payload = {"config": CONFIG.identity(), "config_hash": "old", "pack_digest": pack.digest, "facts": facts}
    storage.write_stage(store, "latents", {**payload, "code_version": "0.1.0"})


def check(store: Store, pack: Pack, config: LatentsConfig, config_hash: str, **facts: object) -> None:
    check_same_settings(store, "latents", config_hash=config_hash, config=config, pack=pack, facts=facts)


def test_nothing_there_and_the_same_settings_are_no_conflict(tiny_pack: Pack, run_store: Store):
    check(run_store, tiny_pack, CONFIG, "old")
    close(run_store, tiny_pack)
    check(run_store, tiny_pack, CONFIG, "old")
    assert is_closed(run_store, "latents", config_hash="old")
    assert not is_closed(run_store, "latents", config_hash="new")


def test_a_conflict_names_settings_prompts_and_inputs(tiny_pack: Pack, run_store: Store):
    close(run_store, tiny_pack, prompt={"hat": OTHER, "bald": OTHER}, dataset=OTHER)
    now = {"prompt": {"hat": OTHER[::-1], "afro": OTHER}, "dataset": OTHER}
    with pytest.raises(ConflictError) as caught:
        check(run_store, tiny_pack, LatentsConfig(num_latents=5, psi=0.5), "new", **now)
    text = str(caught.value)
    assert "num_latents" not in text  # more latents are no conflict
    for difference in (
        "psi: 0.7 -> 0.5",
        "prompt hat changed",
        "prompt bald gone",
        "prompt afro added",
    ):
        assert difference in text
    assert "dataset" not in text.split("other settings: ")[1].split(". Choose")[0]


GROWN = {"num_latents": 4, "prompt": {"hat": OTHER, "bald": OTHER}, "latents": OTHER}


@pytest.mark.parametrize(
    "now",
    [
        GROWN,
        GROWN | {"num_latents": 5},
        GROWN | {"latents": OTHER[::-1]},
        GROWN | {"prompt": {"afro": OTHER, "bald": OTHER, "hat": OTHER}},
    ],
)
def test_check_grows_the_same_or_more_is_no_conflict(now: dict, run_store: Store):
    storage.write_stage(run_store, "latents", {"contents": GROWN})
    check_grows(run_store, "latents", now)


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (GROWN | {"num_latents": 3}, "num_latents: 4 -> 3"),
        (GROWN | {"prompt": {"hat": OTHER}}, "prompt bald gone"),
        (GROWN | {"prompt": {"hat": OTHER[::-1], "bald": OTHER}}, "prompt hat changed"),
    ],
)
@pytest.mark.parametrize("half_grown", [False, True])
def test_check_grows_less_or_changed_is_a_named_conflict(now: dict, named: str, half_grown: bool, run_store: Store):
    where = run_store.child(EARLIER) if half_grown else run_store
    storage.write_stage(where, "latents", {"contents": GROWN})
    with pytest.raises(ConflictError, match=f"lose or change: {named}. Ask for all that it holds"):
        check_grows(run_store, "latents", now)
