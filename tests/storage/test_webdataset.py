import io
import tarfile

import pytest

from storage import sample_name, tar_bytes

FILES = [("a.png", b"1" * 700), ("a.json", b"{}"), ("b=2E5.png", b"2")]


def test_tar_bytes_hold_the_files_in_the_order_given():
    with tarfile.open(fileobj=io.BytesIO(tar_bytes(FILES))) as archive:
        found = [(member.name, archive.extractfile(member).read()) for member in archive]
    assert found == FILES


def test_tar_bytes_say_nothing_of_the_machine_and_are_the_same_twice():
    with tarfile.open(fileobj=io.BytesIO(tar_bytes(FILES))) as archive:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in archive} == {(0, 0, 0, "", "")}
    assert tar_bytes(FILES) == tar_bytes(FILES)


@pytest.mark.parametrize("name", ["seed-1__hat__6.5", "../up", "a b", "c:\\d", "=", "tab\t", "Zo\u00eb"])
def test_sample_name_is_a_file_name_without_a_dot(name: str):
    stem = sample_name(name)
    assert not set(stem) & set('./\\:*?"<>|%\t')


def test_sample_name_keeps_different_names_apart_and_usual_ones_as_they_are():
    names = ["a.b", "a=2Eb", "a/b", "a=b", "a_b", "ab"]
    assert len({sample_name(name) for name in names}) == len(names)
    assert sample_name("seed-00000001__hat__8") == "seed-00000001__hat__8"
    assert sample_name("Zo\u00eb") == "Zo\u00eb"
