"""The commands that make a run into a dataset and a page, on the tiny pack."""

import json
from pathlib import Path

import pandas as pd
import pytest

from flows.edit_dataset import edit_dataset
from flows.export_dataset import export_dataset
from flows.gallery import gallery
from pipeline.errors import MissingInputError, ParameterError, PipelineError
from pipeline.packs.pack import write_pack
from storage import ConflictError, Store, read_stage
from tests.conftest import PROMPT_ROWS


def run_chain(run: Path | str, pack: str) -> dict:
    values = {"num_latents": 5, "latents_per_shard": 2, "images_per_shard": 8, "device": "cpu", "templates": "none"}
    return edit_dataset(PROMPT_ROWS, run=str(run), pack=pack, **values)


@pytest.fixture(scope="module")
def finished(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("finished"))
    run_chain(run, complete_pack_uri)
    return run


def test_export_dataset_writes_data_and_card_and_again_does_nothing(
    finished: str, complete_pack_uri: str, tmp_path: Path
):
    settings = {"run": finished, "to": str(tmp_path), "pack": complete_pack_uri, "device": "cpu", "workers": 2}
    first = export_dataset(**settings)
    assert first["rows"] == len(pd.concat(map(pd.read_parquet, (tmp_path / "data").iterdir()))) == 20
    assert (tmp_path / "README.md").read_text().startswith("---\n")
    assert first["shards_skipped"] == 0
    second = export_dataset(**settings)
    assert second["shards_skipped"] == second["shards"]
    with pytest.raises(ConflictError, match="quality: 95 -> 80"):
        export_dataset(**settings, quality=80)


def test_export_dataset_reads_settings_from_a_file(finished: str, complete_pack_uri: str, tmp_path: Path):
    path = tmp_path / "export.yaml"
    path.write_text("max_pixel_distance: 0\nquestions: {hat: {shade: dark}}\n")
    settings = {"run": finished, "pack": complete_pack_uri, "device": "cpu", "settings": str(path)}
    export_dataset(to=str(tmp_path / "to"), **settings)
    rejected = pd.read_parquet(next((tmp_path / "to/data").glob("rejected*")))
    assert len(rejected) == 15
    assert set(rejected[rejected.prompt == "hat"].judged_wanted) == {"dark"}
    path.write_text("quality: 200\nquestion: {}\n")
    with pytest.raises(ParameterError, match=r"`quality`: input should be less.*`question`: extra inputs"):
        export_dataset(to=str(tmp_path / "bad"), **settings)
    path.write_text("- 1")
    with pytest.raises(ParameterError, match="must hold settings by name"):
        export_dataset(to=str(tmp_path / "bad"), **settings)
    path.write_text("questions: {nobody: {shade: dark}}")
    with pytest.raises(PipelineError, match="must name one attribute and category for a prompt_id of"):
        export_dataset(to=str(tmp_path / "bad"), **settings)


def test_export_dataset_without_scores_names_the_command(tmp_path: Path, complete_pack_uri: str):
    with pytest.raises(MissingInputError, match="styleclip"):
        export_dataset(run=str(tmp_path), to=str(tmp_path / "to"), pack=complete_pack_uri, device="cpu")


def test_edit_dataset_draws_a_gallery_of_all_edits(finished: str):
    assert Path(finished, "gallery/index.html").is_file()
    assert len(list(Path(finished, "gallery/sprites").iterdir())) == 5


def test_gallery_with_other_rules_takes_the_place_of_the_first_and_stays(complete_pack_uri: str, tmp_path: Path):
    run_chain(tmp_path, complete_pack_uri)
    page = Path(tmp_path, "gallery/data.js")
    assert '"rejected":0' in page.read_text()
    gallery(run=str(tmp_path), pack=complete_pack_uri, device="cpu", max_pixel_distance=0)
    assert '"rejected":15' in page.read_text()
    again = run_chain(tmp_path, complete_pack_uri)
    assert again["shards_skipped"] == again["shards"]
    assert '"rejected":15' in page.read_text()
    assert read_stage(Store(str(tmp_path)).child("gallery"), "gallery")["rows"] == 5


def test_export_dataset_meets_a_balanced_request_or_refuses_it(finished: str, complete_pack_uri: str, tmp_path: Path):
    settings = {"run": finished, "pack": complete_pack_uri, "device": "cpu"}
    whole = export_dataset(to=str(tmp_path / "whole"), **settings)
    frame = pd.concat(map(pd.read_parquet, (tmp_path / "whole/data").iterdir()))
    assert whole["rows"] == 20
    shares = frame.shade.value_counts(normalize=True)
    path = tmp_path / "balance.yaml"
    listed = ", ".join(f"{['light', 'dark'][int(number)]}: {share}" for number, share in shares.items())
    path.write_text(f"balance: {{total: 10, tolerance: 0.06, attributes: {{shade: {{{listed}}}}}}}")
    export_dataset(to=str(tmp_path / "ten"), settings=str(path), **settings)
    taken = pd.concat(map(pd.read_parquet, (tmp_path / "ten/data").iterdir()))
    assert len(taken) == 10
    assert (taken.shade.value_counts(normalize=True) - shares).abs().max() <= 0.06
    path.write_text("balance: {total: 1000, attributes: {shade: even}}")
    with pytest.raises(PipelineError, match=r"the run has 20 that may be taken, and cannot give: .* of 1000 images"):
        export_dataset(to=str(tmp_path / "many"), settings=str(path), **settings)
    assert not (tmp_path / "many/data").exists()


def test_export_and_gallery_pass_over_rows_that_have_no_image(complete_pack_uri: str, tmp_path: Path):
    rows = [{**PROMPT_ROWS[0], "strengths": [2.0, 1e38]}]  # the second is not finite: a failed row
    settings = {"num_latents": 3, "device": "cpu", "templates": "none"}
    edit_dataset(rows, run=str(tmp_path / "run"), pack=complete_pack_uri, **settings)
    frame = pd.read_parquet(tmp_path / "run/dataset")
    failed = int(frame.image.isna().sum())
    assert failed == 3
    where = {"run": str(tmp_path / "run"), "pack": complete_pack_uri, "device": "cpu"}
    exported = export_dataset(to=str(tmp_path / "to"), layout="pairs", **where)
    assert exported["rows"] == 3
    assert len(list((tmp_path / "run/gallery/sprites").iterdir())) == 3


def test_threshold_study_of_a_pack_that_pursues_gives_the_gallery_a_slider(complete_pack_uri: str, tmp_path: Path):
    description = json.loads(Path(complete_pack_uri, "pack.json").read_text())
    files = {name: Path(complete_pack_uri, name).read_bytes() for name in description.pop("files")}
    description["settings"] = {"global": {"rule": "pursuit"}}
    write_pack(Store(str(tmp_path / "pack")), description, files)
    values = {"num_latents": 2, "device": "cpu", "templates": "none", "thresholds": "auto:3", "judging_samples": 16}
    edit_dataset(PROMPT_ROWS, run=str(tmp_path / "run"), pack=str(tmp_path / "pack"), **values)
    script = (tmp_path / "run/gallery/data.js").read_text()
    page = json.loads(script.split("\n")[0].removeprefix("window.GALLERY = ").rstrip(";"))
    assert [len(column["variants"]) for column in page["columns"]] == [3, 3]
    thresholds = [variant["threshold"] for variant in page["columns"][0]["variants"]]
    assert thresholds == sorted(set(thresholds))
