"""Photos in: the flow alone, from a bucket, and as the start of the whole chain."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import storage
from flows.edit_dataset import edit_dataset
from flows.export_dataset import export_dataset
from flows.gallery import gallery
from flows.invert_images import invert_images
from pipeline.errors import ParameterError, PipelineError
from storage import ConflictError, Store
from tests.conftest import PROMPT_ROWS
from tests.pipeline.inversion.pictures import saved, smooth_picture

SECRET = "52 degrees north"  # what the photos say of their place and maker, in every way their formats have


def with_secrets() -> dict[str, bytes]:
    """A JPEG with GPS, maker, comment and XMP, and a PNG with EXIF, text and an XMP chunk."""
    exif = Image.Exif()
    exif[0x010F] = SECRET
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 27: SECRET.encode()})
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()
    text = PngInfo()
    text.add_text("Comment", SECRET)
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return {
        "holiday/IMG 1.png": saved(smooth_picture(40, 60), "PNG", exif=exif, pnginfo=text),
        "x.jpg": saved(smooth_picture(48, 48), "JPEG", exif=exif, comment=SECRET.encode(), xmp=xmp),
    }


FILES = {**with_secrets(), "notes.txt": b"no image"}


def fill(uri: str) -> str:
    for name, data in FILES.items():
        Store(uri).write_bytes(name, data)
    return uri


@pytest.fixture(scope="module")
def chain(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict, str]:
    """The whole way: photos, pack and prompts to a scored dataset with pasted photos."""
    folder = tmp_path_factory.mktemp("photos")
    images, run = fill(str(folder / "in")), str(folder / "run")
    result = edit_dataset(
        PROMPT_ROWS, images=images, run=run, pack=complete_pack_uri, device="cpu", templates="none", paste_back=True
    )
    return run, result, images


def test_edit_dataset_of_photos_has_photo_reconstruction_and_edits_with_names(chain: tuple[str, dict, str]):
    run, result, _ = chain
    frame = pd.read_parquet(f"{run}/dataset")
    assert len(frame) == result["images"] == 2 * (2 + 3)
    assert set(frame.latent_id) == {"holiday-IMG-1", "x"}
    assert set(frame.source_path) == {"holiday/IMG 1.png", "x.jpg"}
    assert frame.groupby("prompt_id").size().to_dict() == {"photo": 2, "original": 2, "hat": 2, "red-hair": 4}
    inverted = pd.read_parquet(f"{run}/inverted_images").set_index("relative_path")
    assert inverted.loc["notes.txt", "reason"] == "not_an_image"


def test_edit_dataset_of_photos_scores_against_photo_and_reconstruction(chain: tuple[str, dict, str]):
    run, _, _ = chain
    assert len(pd.read_parquet(f"{run}/scores")) == 2 * (1 + 3)
    against = pd.read_parquet(f"{run}/photo_scores")
    assert len(against) == 2 * (1 + 3)
    assert (against.photo_pixel_distance > 0).all()


def test_edit_dataset_of_photos_pastes_edits_back(chain: tuple[str, dict, str]):
    run, _, _ = chain
    pasted = pd.read_parquet(f"{run}/pasted_photos")
    assert len(pasted) == 2 * 3
    shapes = {storage.decode_image(image["bytes"]).shape for image in pasted.image}
    assert shapes == {(40, 60, 3), (48, 48, 3)}


def contents(path: Path) -> Iterator[bytes]:
    """What a file holds: its bytes, and those inside Parquet's and tar's compression."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        for column in pq.read_table(path).columns:
            yield repr(column.to_pylist()).encode()
            for value in column.to_pylist():
                if isinstance(value, dict) and value.get("bytes"):
                    yield value["bytes"]


def metadata_of(data: bytes) -> dict[str, Any]:
    """What Pillow finds beside the pixels of an image."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return {**image.info, **dict(image.getexif())}


BESIDE_PIXELS = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background", "duration", "timestamp"}


@pytest.mark.parametrize(
    ("kind", "image_format"), [("parquet", "png"), ("imagefolder", "jpeg"), ("webdataset", "webp")]
)
def test_nothing_that_photos_say_of_their_place_leaves_with_edits(
    kind: str, image_format: str, chain: tuple[str, dict, str], complete_pack_uri: str, tmp_path: Path
):
    run, _, images = chain
    for name in ("holiday/IMG 1.png", "x.jpg"):
        assert SECRET.encode() in (Path(images) / name).read_bytes()
    settings = {"format": kind, "image_format": image_format, "pack": complete_pack_uri, "device": "cpu"}
    exported = export_dataset(run=run, to=str(tmp_path / "to"), **settings)
    assert exported["rows"] == 2 * (1 + 3)  # what was drawn: the photos themselves stay in the run
    written = [p for folder in (Path(run), tmp_path / "to") for p in folder.rglob("*") if p.is_file()]
    assert any(path.parts[-2] == "pasted_photos" for path in written)
    for path in written:
        for data in contents(path):
            assert SECRET.encode() not in data, path
            if data[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"RIFF"):
                assert set(metadata_of(data)) <= BESIDE_PIXELS, path


def test_labels_of_photos_leave_with_edits_as_columns_unless_they_are_to_stay(complete_pack_uri: str, tmp_path: Path):
    where = {"pack": complete_pack_uri, "device": "cpu"}
    Store(str(tmp_path)).write_bytes("in/a b/IMG 1.png", saved(smooth_picture(40, 40), "PNG"))
    Store(str(tmp_path)).write_bytes("in/x.png", saved(smooth_picture(48, 48), "PNG"))
    table = tmp_path / "people.csv"
    table.write_text("file,person,prompt\nin/a b/IMG 1.png,Zo\u00eb,first\nin/x.png,,second\n", encoding="utf-8")
    settings = {"images": str(table), "image_column": "file", "background": "gray", "templates": "none"}
    edit_dataset(PROMPT_ROWS, run=str(tmp_path / "run"), **settings, **where)
    shares = {"validation_share": 0, "test_share": 0}
    for kind, read in (("parquet", "data/train-00000-of-00001.parquet"), ("csv", "train.csv")):
        to = tmp_path / kind
        export_dataset(run=str(tmp_path / "run"), to=str(to), format=kind, layout="pairs", **shares, **where)
        found = pd.read_parquet(to / read) if kind == "parquet" else pd.read_csv(to / read)
        rows = found[["source_path", "photo_person", "photo_prompt"]].drop_duplicates().sort_values("source_path")
        assert rows.astype(object).where(rows.notna(), None).to_numpy().tolist() == [
            ["in/a b/IMG 1.png", "Zo\u00eb", "first"],
            ["in/x.png", None, "second"],
        ]
        assert set(found.prompt) == {"hat", "Red Hair"}
    card = (tmp_path / "csv/README.md").read_text(encoding="utf-8")
    assert "reconstructions of photos" in card
    assert "synthetic." not in card
    assert all(option in card for option in ("--images PHOTOS", "--image-column file", "--background gray"))
    assert str(table) not in card
    bare = tmp_path / "bare"
    export_dataset(run=str(tmp_path / "run"), to=str(bare), photo_columns=False, **shares, **where)
    columns = pq.read_schema(bare / "data/train-00000-of-00001.parquet").names
    assert not {"source_path", "photo_person", "photo_prompt"} & set(columns)


def test_gallery_of_photos_has_the_photo_beside_its_reconstruction_and_edits(
    chain: tuple[str, dict, str], complete_pack_uri: str
):
    run, _, _ = chain
    gallery(run=run, pack=complete_pack_uri, device="cpu")
    script = Store(run).read_bytes("gallery/faces/00000.js").decode()
    faces = {face["id"]: face for face in json.loads(re.search(r"push\(\.\.\.(.*)\);", script)[1])}
    inverted = pd.read_parquet(f"{run}/inverted_images").set_index("latent_id")
    assert set(faces) == {"holiday-IMG-1", "x"}
    for name, face in faces.items():
        assert sorted(cell[0] for cell in face["cells"]) == [1, 2, 3]
        sheet = storage.decode_image(Store(run).read_bytes(f"gallery/sprites/{face['sprite']}")).astype(float)
        for tile, column in ((0, "reconstruction"), (face["photo"], "aligned")):
            top, left = (place * 16 for place in divmod(tile, face["across"]))
            shown, wanted = sheet[top : top + 16, left : left + 16], inverted[column][name]["bytes"]
            assert np.abs(shown - storage.decode_image(wanted)).mean() < 12  # a lossy preview


def test_gallery_of_photos_says_that_the_reconstruction_is_what_is_flicked_to(
    chromium: Any, chain: tuple[str, dict, str], complete_pack_uri: str
):
    run, _, _ = chain
    gallery(run=run, pack=complete_pack_uri, device="cpu")
    chromium.get(f"file://{run}/gallery/index.html")
    button = chromium.find_element("id", "flick")
    assert button.text == "Reconstruction"
    assert button.get_attribute("title") == "Show the reconstructions (O)"
    keys = chromium.find_element("id", "help").get_attribute("textContent")
    assert "reconstructions while held" in keys
    assert "original" not in keys
    button.click()
    shown = "return [...document.querySelectorAll('.cell .pic')].map(pic => pic.style.backgroundPosition)"
    assert set(chromium.execute_script(shown)) == {"0px 0px"}  # the first tile, which is no photo: that is the last
    chromium.find_element("css selector", ".cell").click()
    captions = [e.text for e in chromium.find_elements("css selector", "#detail figcaption")]
    assert captions == ["photo", "reconstruction", "reconstruction"]


def test_edit_dataset_of_photos_again_does_nothing(chain: tuple[str, dict, str], complete_pack_uri: str):
    run, _, images = chain
    again = edit_dataset(
        PROMPT_ROWS, images=images, run=run, pack=complete_pack_uri, device="cpu", templates="none", paste_back=True
    )
    assert again["shards_skipped"] == again["shards"]


def test_invert_images_of_a_bucket_is_as_of_a_folder(s3_bucket: str, tmp_path: Path, tiny_pack_uri: str):
    found = []
    for name, images in (("here", str(tmp_path / "in")), ("there", f"{s3_bucket}/{tmp_path.name}/in")):
        run = str(tmp_path / name)
        invert_images(fill(images), run=run, pack=tiny_pack_uri, device="cpu")
        found.append(pd.read_parquet(f"{run}/latents"))
    for column in ("latent_id", "status", "inversion_error"):
        assert found[0][column].equals(found[1][column])
    good = found[0].status == "ok"
    np.testing.assert_array_equal(np.stack(found[0].w_plus[good]), np.stack(found[1].w_plus[good]))


def test_invert_images_of_the_folder_that_the_run_lies_in_takes_no_result_for_a_photo(
    tmp_path: Path, tiny_pack_uri: str
):
    images = fill(str(tmp_path))
    for run in ("out/first", "out/second", "out/first"):
        invert_images(images, run=str(tmp_path / run), pack=tiny_pack_uri, device="cpu")
        assert set(pd.read_parquet(tmp_path / run / "inverted_images").relative_path) == set(FILES)


def test_invert_images_with_other_settings_in_the_same_run_is_refused(tmp_path: Path, tiny_pack_uri: str):
    images, run = fill(str(tmp_path / "in")), str(tmp_path / "run")
    invert_images(images, run=run, pack=tiny_pack_uri, device="cpu")
    with pytest.raises(ConflictError):
        invert_images(images, run=run, pack=tiny_pack_uri, device="cpu", align="center-crop")


def test_edit_dataset_without_one_usable_image_says_so(tmp_path: Path, complete_pack_uri: str):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_bytes(b"no image")
    with pytest.raises(PipelineError, match="none is"):
        edit_dataset(
            PROMPT_ROWS, images=str(tmp_path / "in"), run=str(tmp_path / "run"), pack=complete_pack_uri, device="cpu"
        )


def test_edit_dataset_of_images_and_latents_is_refused(tmp_path: Path, complete_pack_uri: str):
    with pytest.raises(ParameterError, match="both"):
        edit_dataset(PROMPT_ROWS, images="in", latents="x.npy", run=str(tmp_path), pack=complete_pack_uri)
