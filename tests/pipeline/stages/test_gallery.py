"""The gallery in a real browser, from a disk: what a person does, done by keys and clicks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from pipeline.config import GalleryConfig
from pipeline.packs.pack import Pack
from pipeline.runs.shard import find_input
from pipeline.stages import gallery, labels
from storage import Store
from tests.pipeline.export.finished_run import NUM_LATENTS, close, write_run


def write_gallery(run: Store, pack: Pack, config: GalleryConfig) -> Store:
    """The run's gallery by its stages, in order."""
    images, scored, edited = (find_input(x, run) for x in ("dataset", "scores", "edited_latents"))
    to, settings = run.child("gallery"), gallery.labels_config(config)
    work = to.child("_work")
    facts = labels.load_run_facts(settings, pack, edited, None)
    for shard in range(images.num_shards):
        labels.run_labels_shard(settings, work, pack, shard, facts=facts, dataset=images, scores=scored)
    config_hash = labels.labels_hash(settings, pack, images, scored)
    labelled = close(work, "labels", images.num_shards, config_hash, settings, pack)
    columns = gallery.load_columns(edited)
    for shard in range(images.num_shards):
        gallery.run_gallery_shard(config, to, pack, shard, columns=columns, labels=labelled, dataset=images)
    gallery.run_gallery_page(config, to, pack, columns=columns, labels=labelled, dataset=images)
    return to


@pytest.fixture(scope="module")
def run(tiny_pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("run")))
    write_run(store, tiny_pack)
    return store


@pytest.fixture(scope="module")
def median_distance(run: Store) -> float:
    table = find_input("scores", run).table(["pixel_distance"])
    return float(np.median(table["pixel_distance"].to_numpy()))


@pytest.fixture(scope="module")
def folder(run: Store, tiny_pack: Pack, median_distance: float) -> Store:
    """A gallery that rejects half of the edits."""
    return write_gallery(run, tiny_pack, GalleryConfig(max_pixel_distance=median_distance))


@pytest.fixture
def page(chromium: Any, folder: Store) -> Iterator[Any]:
    chromium.get("about:blank")
    chromium.get_log("browser")  # of pages that other tests opened
    chromium.get(f"file://{folder.uri}/index.html")
    yield chromium
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []


def labels_of(page: Any) -> list[str]:
    script = "return [...document.querySelectorAll('.cell')].map(c => c.ariaLabel)"
    return page.execute_script(script)


def press(page: Any, *keys: str) -> None:
    page.switch_to.active_element.send_keys(*keys)


def move(page: Any, name: str, value: float) -> None:
    script = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))"
    )
    page.execute_script(script, name, value)


def choose(page: Any, name: str, value: str) -> None:
    script = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('change'))"
    )
    page.execute_script(script, name, value)


def test_sprites_hold_the_original_first_and_every_edit(folder: Store, run: Store):
    script = folder.read_bytes("faces/00000.js").decode()
    faces = json.loads(re.search(r"push\(\.\.\.(.*)\);", script)[1])
    sheet = storage.decode_image(folder.read_bytes(f"sprites/{faces[0]['sprite']}"))
    assert sheet.shape == (32, 32, 3)
    rows = find_input("dataset", run).shard_table(0).to_pylist()
    original = storage.decode_image(rows[0]["image"]["bytes"]).astype(float)
    assert np.abs(sheet[:16, :16] - original).mean() < np.abs(sheet[16:, 16:] - original).mean()
    assert sorted(cell[0] for cell in faces[0]["cells"]) == [1, 2, 3]


def test_page_shows_a_row_per_face_and_a_column_per_prompt(page: Any):
    assert page.title == "Edits of noise"
    grid = page.find_element("id", "grid")
    assert (grid.get_attribute("aria-rowcount"), grid.get_attribute("aria-colcount")) == (str(NUM_LATENTS + 1), "3")
    heads = [e.text for e in page.find_elements("css selector", ".col b")]
    assert heads == ["dark", "hat"]
    assert "12 faces" in page.find_element("id", "facts").text
    assert 0 < len(labels_of(page)) < 2 * NUM_LATENTS  # what is out of view is not in the page


def test_strength_slider_shows_another_strength_and_the_original_at_0(page: Any):
    choose(page, "accept", "all")
    seen = []
    for step in (0, 1, 2):
        move(page, "strength", step)
        seen.append(next(label for label in labels_of(page) if ", dark, " in label))
    assert "original" in seen[0]
    assert "strength 2," in seen[1]
    assert "strength 6.5," in seen[2]


def test_rejected_images_are_shown_on_demand_with_their_reason(page: Any):
    hollow = "return [...document.querySelectorAll('.cell.hollow')].length"
    assert page.execute_script(hollow) > 0
    assert page.execute_script("return document.querySelectorAll('.cell.rejected').length") == 0
    page.find_element("tag name", "body").send_keys("r")
    assert page.execute_script(hollow) == 0
    reason = page.execute_script("return document.querySelector('.cell.rejected').title")
    assert reason.startswith("pixel_distance")
    choose(page, "accept", "rejected")
    assert all(
        "rejected: pixel_distance" in x
        for x in page.execute_script(
            "return [...document.querySelectorAll('.cell:not(.hollow)')].map(c => c.ariaLabel)"
        )
    )


def test_least_score_and_order_filter_and_sort(page: Any):
    choose(page, "accept", "all")
    gains = lambda: [float(re.search(r"CLIP gain ([+-]?[\d.]+)", x)[1]) for x in labels_of(page) if ", dark, " in x]  # noqa: E731
    page.find_element("id", "search").send_keys("dark")
    choose(page, "order", "best")
    assert gains() == sorted(gains(), reverse=True)
    choose(page, "order", "worst")
    assert gains() == sorted(gains())
    low, high = page.execute_script("return Gallery.ranges.gain")
    step = "Gallery.stepOf(Gallery.variantOf(Gallery.data.columns[0])).index"
    every = page.execute_script(f"return Gallery.rows.map(row => row.cells[{step}][1])")
    share = int(100 * (np.median(every) - low) / (high - low))
    move(page, "least", share)
    wanted = [gain for gain in every if gain >= low + (high - low) * share / 100]
    assert page.find_element("id", "grid").get_attribute("aria-rowcount") == str(len(wanted) + 1)
    assert 0 < len(wanted) < NUM_LATENTS


def test_search_finds_a_prompt_or_a_face(page: Any):
    search = page.find_element("id", "search")
    search.send_keys("HAT")
    assert [e.text for e in page.find_elements("css selector", ".col b")] == ["hat"]
    search.clear()
    search.send_keys("seed-00000003")
    assert {label.split(",")[0] for label in labels_of(page)} == {"seed-00000003"}
    search.clear()
    search.send_keys("nothing of that name")
    assert page.find_element("css selector", ".nothing").is_displayed()
    page.find_element("id", "reset").click()
    assert not page.find_element("css selector", ".nothing").is_displayed()


def test_keys_move_open_change_strength_and_close(page: Any):
    choose(page, "accept", "all")
    page.execute_script("document.querySelector('.cell[tabindex=\"0\"]').focus()")
    press(page, "\ue015", "\ue014")  # down, right
    assert page.switch_to.active_element.accessible_name.startswith("seed-00000001, hat")
    press(page, "\ue012", "\ue007")  # left, enter
    detail = page.find_element("id", "detail")
    assert detail.is_displayed()
    assert "strength 6.5" in page.find_element("id", "after-caption").text
    press(page, "[")
    assert "strength 2" in page.find_element("id", "after-caption").text
    press(page, "\ue00c")  # escape
    assert not detail.is_displayed()
    assert page.switch_to.active_element.accessible_name.startswith("seed-00000001, dark")


def test_flick_shows_the_originals_while_the_key_is_held(page: Any):
    choose(page, "accept", "all")
    position = "return document.querySelector('.cell .pic').style.backgroundPosition"
    edited = page.execute_script(position)
    page.execute_script("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'o', bubbles: true}))")
    assert page.execute_script(position) == "0px 0px" != edited
    page.execute_script("document.body.dispatchEvent(new KeyboardEvent('keyup', {key: 'o', bubbles: true}))")
    assert page.execute_script(position) == edited


def test_what_is_flicked_to_is_called_original(page: Any):
    assert page.find_element("id", "flick").text == "Original"
    assert page.find_element("id", "flick").get_attribute("title") == "Show the originals (O)"


def test_prompt_and_face_pages_by_their_address(page: Any):
    page.find_element("css selector", ".col").click()
    assert page.find_element("id", "title").text == "dark"
    assert [e.text for e in page.find_elements("css selector", ".col b")] == ["strength 2", "strength 6.5"]
    page.find_element("css selector", ".who").click()
    assert page.find_element("id", "title").text == "seed-00000000"
    page.find_element("id", "home").click()
    assert page.find_element("id", "title").text == "Edits of noise"


@pytest.fixture
def study(chromium: Any, tiny_pack: Pack, tmp_path: Path) -> Iterator[Any]:
    """A gallery of one prompt at two thresholds, one of them twice under another name, and three strengths."""
    asked = {"target": "a dark shade", "neutral": "a face", "strengths": [2.0, 4.0, 6.5]}
    names = {"dark (1 channel)": 1, "dark (2 channels)": 2, "dark (3 channels)": 2}
    store = Store(str(tmp_path))
    write_run(store, tiny_pack, [{"name": name, "num_channels": count, **asked} for name, count in names.items()])
    to = write_gallery(store, tiny_pack, GalleryConfig())
    chromium.get(f"file://{to.uri}/index.html")
    yield chromium
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_threshold_slider_goes_over_the_grid_of_strengths_and_thresholds(study: Any):
    assert [e.text for e in study.find_elements("css selector", ".col b")] == ["dark"]
    slider = study.find_element("id", "threshold")
    assert slider.is_displayed()
    assert slider.get_attribute("max") == "1"  # what keeps the same channels is there once
    position, shown = "return document.querySelector('.cell .pic').style.backgroundPosition", set()
    values = []
    for threshold in (0, 1):
        move(study, "threshold", threshold)
        values.append(float(study.find_element("id", "threshold-value").text))
        for step in (0, 1, 2, 3):
            move(study, "strength", step)
            shown.add(study.execute_script(position))
    assert len(shown) == 7  # the original and three strengths at two thresholds
    assert values == sorted(set(values))
    study.find_element("css selector", ".cell").click()
    listed = study.find_element("id", "detail-scores").text
    assert f"threshold\n{values[1]:.2f}" in listed


def test_nothing_found_says_why_and_offers_the_way_back(page: Any):
    page.find_element("id", "search").send_keys("zebra")
    assert page.find_element("id", "why").text == "No face has an image with \u201czebra\u201d."
    page.find_element("id", "reset").click()
    assert not page.find_element("id", "why").is_displayed()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_have_readable_contrast(page: Any, theme: str):
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    style = "const s = getComputedStyle(arguments[0]); return s[arguments[1]]"
    body = page.find_element("tag name", "body")
    ground = luminance(page.execute_script(style, body, "backgroundColor"))
    for name in ("facts", "title"):
        ink = luminance(page.execute_script(style, page.find_element("id", name), "color"))
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5
    assert (ground > 0.5) == (theme == "light")


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it, 0 to 1."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
