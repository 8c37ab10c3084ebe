import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import PipelineError
from pipeline.inversion.intake import RejectedImageError
from pipeline.inversion.reading import read_images
from pipeline.inversion.sources import ImageReference, list_images, safe_name
from storage import IMAGE_TYPE, MissingError, Store


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
    assert ids["x.jpg"].startswith("x-")
    assert ids["a/x.png"].startswith("a-x-")


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
