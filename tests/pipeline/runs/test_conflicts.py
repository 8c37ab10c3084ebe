import pytest

import storage
from pipeline.config import LatentsConfig
from pipeline.packs.pack import Pack
from pipeline.runs.conflicts import check_same_settings, is_closed
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
    for difference in (
        "num_latents: 4 -> 5",
        "psi: 0.7 -> 0.5",
        "prompt hat changed",
        "prompt bald gone",
        "prompt afro added",
    ):
        assert difference in text
    assert "dataset" not in text.split("other settings: ")[1].split(". Choose")[0]
