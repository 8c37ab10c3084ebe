import datetime
import decimal
import io
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import NoCredentialsError

from pipeline.errors import PipelineError
from pipeline.inversion.intake import RejectedImageError
from pipeline.inversion.reading import GIVEN_UP_AFTER, read_images
from pipeline.inversion.sources import ImageReference, list_images, safe_name, shown_uri
from storage import IMAGE_TYPE, MissingError, Store, sample_name


def listed(images: str, column: str | None = None) -> list[ImageReference]:
    with list_images(images, column=column) as listing:
        found = list(listing)
        assert listing.count == len(found)
        return found


def digest(images: str) -> str:
    with list_images(images) as listing:
        return listing.digest()


def fill(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return str(folder)


def test_list_images_names_latents_by_path_in_its_order(tmp_path: Path):
    uri = fill(tmp_path, "IMG_0002.JPG", "holiday/beach/IMG 1.png", "a.png")
    found = listed(uri)
    assert [row.latent_id for row in found] == ["IMG_0002", "a", "holiday-beach-IMG-1"]
    assert [row.relative_path for row in found] == ["IMG_0002.JPG", "a.png", "holiday/beach/IMG 1.png"]


def test_list_images_keeps_equal_names_apart(tmp_path: Path):
    uri = fill(tmp_path, "x.png", "x.jpg", "X.PNG", "a/x.png", "a-x.png", "b/x.png", "y.png")
    ids = {row.relative_path: row.latent_id for row in listed(uri)}
    assert len({latent_id.casefold() for latent_id in ids.values()}) == 7
    assert ids["y.png"] == "y"
    assert ids["b/x.png"] == "b-x"
    assert ids["x.jpg"].startswith("x~")
    assert ids["a/x.png"].startswith("a-x~")


def test_list_images_tells_a_name_from_another_with_its_digest(tmp_path: Path):
    first = listed(fill(tmp_path, "a b.png", "a-b.png"))
    uri = fill(tmp_path, *(f"{row.latent_id}.png" for row in first))
    ids = [row.latent_id for row in listed(uri)]
    assert len(set(ids)) == len(ids) == 4


@pytest.mark.parametrize(
    "stem", ["\u65e5" * 80, "a.b." * 20, "x" * 200, "/".join(["\u65e5" * 40, "\u672c" * 80]), "\U00020000" * 60]
)
def test_list_images_names_leave_room_for_a_prompts_in_a_file_name(stem: str, tmp_path: Path):
    uri = fill(tmp_path, f"{stem}.png", f"{stem}.jpg")
    found = listed(uri)
    assert len({row.latent_id for row in found}) == 2
    for row in found:
        edited = sample_name(f"{row.latent_id}__{'p' * 89}__{-1.0000000000000002e-08!r}")
        (tmp_path / f"{edited}.webp").touch()  # 255 bytes are the most that file systems take


def test_list_images_names_do_not_depend_on_other_files(tmp_path: Path):
    before = {row.relative_path: row.latent_id for row in listed(fill(tmp_path, "b.png", "c/d.png"))}
    after = {row.relative_path: row.latent_id for row in listed(fill(tmp_path, "a.png", "c/e.png"))}
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("IMG_0001.jpeg", "IMG_0001"),
        ("a b/c?d*.png", "a-b-c-d"),
        ("x__y___z.png", "x_y_z"),
        ("..hidden.png", "hidden"),
        ("???.png", "image"),
        ("\u5199\u771f.png", "\u5199\u771f"),
        ("Mu\u0308nchen.png", "M\u00fcnchen"),
        ("archive.tar.png", "archive.tar"),
    ],
)
def test_safe_name(path: str, name: str):
    assert safe_name(path) == name


def test_safe_name_of_long_paths_differ_and_stay_short():
    names = {safe_name(f"{'x' * 300}{i}.png") for i in range(5)}
    assert len(names) == 5
    assert max(len(name) for name in names) <= 80


def test_list_images_digest_changes_with_any_file(tmp_path: Path):
    uri = fill(tmp_path / "in", "a.png", "b.png")
    first = digest(uri)
    assert digest(uri) == first
    fill(tmp_path / "in", "c.png")
    second = digest(uri)
    (tmp_path / "in/a.png").write_bytes(b"another")
    assert len({first, second, digest(uri)}) == 3


@pytest.mark.parametrize(("uri", "error"), [("absent", MissingError), ("*.png", PipelineError)])
def test_list_images_of_nothing_is_refused(tmp_path: Path, uri: str, error: type[Exception]):
    with pytest.raises(error, match="must"):
        listed(str(tmp_path / uri))


def test_list_images_takes_a_link_to_itself_for_a_file_that_cannot_be_read(tmp_path: Path):
    uri = fill(tmp_path, "a.png")
    (tmp_path / "self.png").symlink_to("self.png")
    found = {row.relative_path: data for row, data in read_images(listed(uri), column=None, most_bytes=9)}
    assert found["a.png"] == b"a.png"
    assert isinstance(found["self.png"], RejectedImageError)
    assert found["self.png"].reason == "unreadable"


@pytest.mark.parametrize("name", ["list.txt", "photos.xlsx", "photos.json"])
def test_list_images_of_a_list_of_another_kind_says_which_are_read(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"a.png\n")
    with pytest.raises(PipelineError, match=r"\.parquet, \.csv"):
        listed(str(tmp_path / name))
    assert len(listed(str(tmp_path))) == 1  # in a folder it is one of the files, with its reason


CSV = "image,mood,age\npics/a.png,glad,31\n/abs/b.png,,\n,sad,7\npics/a.png,sad,8\n"
JSONL = '{"path": "pics/a.png", "mood": "glad", "age": 31}\n\n{"path": null, "mood": "sad"}\n'


def test_list_images_of_csv_keeps_rows_and_labels(tmp_path: Path):
    (tmp_path / "list.csv").write_text("\ufeff" + CSV, encoding="utf-8")
    found = listed(str(tmp_path / "list.csv"))
    assert [row.uri for row in found] == [f"{tmp_path}/pics/a.png", "/abs/b.png", "", f"{tmp_path}/pics/a.png"]
    assert [dict(row.labels) for row in found] == [
        {"mood": "glad", "age": "31"},
        {},
        {"mood": "sad", "age": "7"},
        {"mood": "sad", "age": "8"},
    ]
    assert found[2].latent_id == "row-00000002"
    assert len({row.latent_id for row in found}) == 4


def test_list_images_of_jsonl_keeps_rows_and_labels(tmp_path: Path):
    (tmp_path / "list.jsonl").write_text(JSONL)
    found = listed(str(tmp_path / "list.jsonl"))
    assert [row.uri for row in found] == [f"{tmp_path}/pics/a.png", ""]
    assert dict(found[0].labels) == {"mood": "glad", "age": "31"}


@pytest.mark.parametrize("line", ["{", "[1]", "\x00"])
def test_list_images_of_broken_jsonl_names_the_file(tmp_path: Path, line: str):
    (tmp_path / "list.jsonl").write_text(line)
    with pytest.raises(PipelineError, match=r"list\.jsonl"):
        listed(str(tmp_path / "list.jsonl"))


def write_embedded(folder: Path, *, rows_per_group: int = 2) -> str:
    cells = [{"bytes": f"bytes {i}".encode(), "path": f"p/{i}.png"} for i in range(7)]
    cells[3] = {"bytes": b"no path", "path": None}
    cells[4] = {"bytes": None, "path": "beside.png"}
    cells[5] = None
    (folder / "beside.png").write_bytes(b"in a file")
    table = pa.table({"image": pa.array(cells, IMAGE_TYPE), "mood": ["glad"] * 6 + [None], "n": list(range(7))})
    pq.write_table(table, folder / "images.parquet", row_group_size=rows_per_group)
    return str(folder / "images.parquet")


def test_list_images_of_an_image_column_reads_no_bytes_but_names_and_labels(tmp_path: Path):
    found = listed(write_embedded(tmp_path))
    assert [row.latent_id for row in found] == ["p-0", "p-1", "p-2", "row-00000003", "beside", "row-00000005", "p-6"]
    assert [row.row for row in found] == list(range(7))
    assert dict(found[6].labels) == {"n": "6"}


def test_read_images_of_an_image_column_gives_the_bytes_of_the_rows_asked_for(tmp_path: Path):
    found = listed(write_embedded(tmp_path))
    for asked in (found, found[1:4], found[5:]):
        read = list(read_images(asked, column=None, most_bytes=100))
        assert [reference for reference, _ in read] == asked
        for reference, data in read:
            special = {3: b"no path", 4: b"in a file", 5: b""}
            assert data == special.get(reference.row or 0, f"bytes {reference.row}".encode())


def test_list_images_of_a_parquet_of_uris_and_of_plain_bytes(tmp_path: Path):
    pq.write_table(pa.table({"photo": ["a.png"], "x": [1]}), tmp_path / "uris.parquet")
    pq.write_table(pa.table({"image": [b"abc"], "x": [1]}), tmp_path / "bytes.parquet")
    (found,) = listed(str(tmp_path / "uris.parquet"), "photo")
    assert (found.uri, found.row, dict(found.labels)) == (f"{tmp_path}/a.png", None, {"x": "1"})
    (found,) = listed(str(tmp_path / "bytes.parquet"))
    assert [data for _, data in read_images([found], column=None, most_bytes=9)] == [b"abc"]


def test_list_images_of_several_tables_takes_one_after_the_other(tmp_path: Path):
    for name in ("b", "a"):
        pq.write_table(pa.table({"uri": [f"{name}{i}.png" for i in range(2)]}), tmp_path / f"{name}.parquet")
    assert [row.latent_id for row in listed(f"{tmp_path}/*.parquet")] == ["a0", "a1", "b0", "b1"]


@pytest.mark.parametrize(
    ("column", "match"), [(None, "image_column"), ("mood", "image_column"), ("age", "it is int64")]
)
def test_list_images_of_a_table_without_images_says_so(tmp_path: Path, column: str | None, match: str):
    pq.write_table(pa.table({"age": [1]}), tmp_path / "x.parquet")
    with pytest.raises(PipelineError, match=match):
        listed(str(tmp_path / "x.parquet"), column)


SPREADSHEETS = {
    "semicolons": b"image;mood\na b.png;glad\n",
    "tabs": b"image\tmood\na b.png\tglad\n",
    "utf-16": "image\tmood\r\na b.png\tglad\r\n".encode("utf-16"),
    "stated": b"sep=;\r\nimage;mood\r\na b.png;glad\r\n",
    "mark": "\ufeffImage, mood\na b.png, glad\n".encode(),
    "index": b",Image,mood\n0,a b.png,glad\n",
    "blank rows": b"image,mood,\n,,\na b.png,glad,\n\n,,\n",
    "old line ends": b"image,mood\ra b.png,glad\r",
}


@pytest.mark.parametrize("kind", SPREADSHEETS)
def test_list_images_reads_tables_as_spreadsheets_save_them(tmp_path: Path, kind: str):
    (tmp_path / "list.csv").write_bytes(SPREADSHEETS[kind])
    found = [(row.relative_path, dict(row.labels)) for row in listed(str(tmp_path / "list.csv"))]
    assert found == [("a b.png", {"mood": "glad"})]


def test_list_images_finds_the_separator_by_the_column_asked_for(tmp_path: Path):
    (tmp_path / "list.csv").write_text("Farbe, Ton;Bild\nx;a.png\n")
    (row,) = listed(str(tmp_path / "list.csv"), "Bild")
    assert (row.relative_path, dict(row.labels)) == ("a.png", {"Farbe, Ton": "x"})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image,who\na.png,Smith, John\n", "line 2.*no more cells"),
        ('image,who\na.png,x\n"b.png,y\nc.png,z\n', "line 4.*quote"),
        ("image,who,who\na.png,x,y\n", "'who' twice"),
        ("image,who\na.png,Zo\u00eb\n".encode("cp1252"), "UTF-8"),
        (b"PK\x03\x04 and more", "workbook"),
    ],
)
def test_list_images_of_a_damaged_table_says_where(tmp_path: Path, text: str | bytes, match: str):
    (tmp_path / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PipelineError, match=match):
        listed(str(tmp_path / "list.csv"))


def test_list_images_of_json_lines_says_which_line_is_none(tmp_path: Path):
    (tmp_path / "list.jsonl").write_text('{"image": "a.png"}\n\n{"image": \n')
    with pytest.raises(PipelineError, match="line 3"):
        listed(str(tmp_path / "list.jsonl"))


def test_list_images_spells_labels_as_a_person_would(tmp_path: Path):
    day = datetime.date(2024, 2, 29)
    cells = {"image": ["a.png"], "day": [day], "price": [decimal.Decimal("1.50")], "n": [3], "good": [True]}
    pq.write_table(pa.table(cells), tmp_path / "x.parquet")
    (row,) = listed(str(tmp_path / "x.parquet"))
    assert dict(row.labels) == {"day": "2024-02-29", "price": "1.50", "n": "3", "good": "true"}


def test_read_images_finds_a_file_by_its_percent_encoded_uri(tmp_path: Path):
    fill(tmp_path, "a b.png", "c%20d.png")
    uris = [(tmp_path / "a b.png").as_uri(), f"file://{tmp_path}/a b.png", f"file://{tmp_path}/c%20d.png"]
    (tmp_path / "list.csv").write_text("\n".join(["uri", *uris]))
    found = [data for _, data in read_images(listed(str(tmp_path / "list.csv")), column=None, most_bytes=99)]
    assert found == [b"a b.png", b"a b.png", b"c%20d.png"]


def test_list_images_shows_no_secret_of_a_signed_address(tmp_path: Path):
    signed = ["https://a.example/x.png?X-Amz-Signature=c0ffee", "https://ann:hunter2@b.example/y.png"]
    (tmp_path / "list.csv").write_text("\n".join(["url,mood", *(f"{uri},glad" for uri in signed)]))
    found = listed(str(tmp_path / "list.csv"))
    assert [row.uri for row in found] == signed  # to read them
    for row in found:
        for text in (row.relative_path, row.latent_id, shown_uri(row.uri)):
            assert not any(secret in text for secret in ("c0ffee", "hunter2", "ann"))


class StubbornStore(fsspec.AbstractFileSystem):
    """A store whose client raises an error of its own, and one that does not answer."""

    protocol = "stubborn"
    asked = 0

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        type(self).asked += 1
        if "locked" in path:
            raise NoCredentialsError()
        if "absent" in path:  # fsspec's web client says so of a server that is away
            raise FileNotFoundError(path) from ConnectionError("no answer")
        raise ConnectionError("no answer")


def test_read_images_goes_on_past_a_store_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fsspec.register_implementation("stubborn", StubbornStore, clobber=True)
    monkeypatch.setenv("STYLECLIP_STORE_PATIENCE", "0.01")
    monkeypatch.setattr(StubbornStore, "asked", 0)
    fill(tmp_path, "a.png")
    servers = [f"stubborn://{server}/{i}.png" for server in ("away", "absent") for i in range(20)]
    uris = ["stubborn://locked/x.png", *servers, "a.png"]
    (tmp_path / "list.csv").write_text("\n".join(["uri", *uris]))
    *unread, last = (data for _, data in read_images(listed(str(tmp_path / "list.csv")), column=None, most_bytes=99))
    assert last == b"a.png"
    assert all(isinstance(data, RejectedImageError) and data.reason == "unreadable" for data in unread)
    assert "credentials" in str(unread[0])
    assert StubbornStore.asked <= 1 + 2 * 2 * GIVEN_UP_AFTER  # a dead server among many is not asked for every image


def test_read_images_gives_the_reason_for_what_cannot_be_read(tmp_path: Path):
    uri = fill(tmp_path, "a.png", "large.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    found = {r.relative_path: data for r, data in read_images(listed(uri), column=None, most_bytes=6)}
    assert found["a.png"] == b"a.png"
    reasons = {path: data.reason for path, data in found.items() if isinstance(data, RejectedImageError)}
    assert reasons == {"gone.png": "unreadable", "large.png": "too_large"}


@pytest.mark.parametrize("uri", ["nosuch://x/y.png", "memory://absent.png", "/absent/x.png", "s3:/x"])
def test_read_images_of_an_unreadable_uri_is_a_reason(tmp_path: Path, uri: str):
    (tmp_path / "list.csv").write_text(f"uri\n{uri}\n")
    ((_, data),) = read_images(listed(str(tmp_path / "list.csv")), column=None, most_bytes=10)
    assert isinstance(data, RejectedImageError)
    assert data.reason == "unreadable"


def test_a_folder_in_a_bucket_behaves_like_a_local_one(s3_bucket: str, tmp_path: Path):
    names = ("x.png", "a/x.png", "a/b c.png")
    local, remote = Store(str(tmp_path)), Store(f"{s3_bucket}/{tmp_path.name}")
    for name in names:
        local.write_bytes(name, name.encode())
        remote.write_bytes(name, name.encode())
    here, there = listed(local.uri), listed(remote.uri)
    assert [(r.latent_id, r.relative_path, r.size) for r in here] == [
        (r.latent_id, r.relative_path, r.size) for r in there
    ]
    assert [d for _, d in read_images(here, column=None, most_bytes=99)] == [
        d for _, d in read_images(there, column=None, most_bytes=99)
    ]


def test_a_table_in_a_bucket_names_images_beside_it(s3_bucket: str, tmp_path: Path):
    store = Store(f"{s3_bucket}/{tmp_path.name}")
    store.write_bytes("pics/x.png", b"x")
    store.write_bytes("list.jsonl", json.dumps({"file": "pics/x.png"}).encode())
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array([{"bytes": b"y", "path": "y.png"}], IMAGE_TYPE)}), sink)
    store.write_bytes("held.parquet", sink.getvalue())
    for table, wanted in (("list.jsonl", b"x"), ("held.parquet", b"y")):
        found = listed(f"{store.uri}/{table}")
        assert [data for _, data in read_images(found, column=None, most_bytes=9)] == [wanted]
