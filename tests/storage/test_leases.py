"""One writer at a time: of real processes, of dead ones, and of ones on other machines."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from storage import LEASE_FILE, HeldError, Holder, Store, lease, leases
from tests.mortal_store import Killed

REPOSITORY = Path(__file__).parents[2]
HOLD = (
    "import sys, time; from storage import Store, lease\n"
    "with lease(Store(sys.argv[1]), what='a test'):\n"
    "    print('held', flush=True); sys.stdin.readline()"
)
ELSEWHERE = Holder("t" * 32, "edit-dataset", "far", "far boot pid", 4711, "99", 3, time.time())


@pytest.fixture(params=["local", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store that several processes see."""
    if request.param == "local":
        return Store(tmp_path / "store")
    return Store(f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.5)


def holding(store: Store) -> subprocess.Popen[str]:
    """A process of its own that holds the lease until it is sent a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.uri],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_done(shared: Store):
    first = holding(shared)
    with pytest.raises(HeldError, match=rf"one writer at a time; a test on .* \(process {first.pid}\)"), taken(shared):
        pass
    first.communicate("\n", timeout=60)
    assert shared.list() == []
    with taken(shared):
        assert shared.list() == [LEASE_FILE]
    assert shared.list() == []


def test_a_killed_process_is_followed_at_once(shared: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "_is_alive", None)  # nothing is watched
    first = holding(shared)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert shared.list() == [LEASE_FILE]
    with taken(shared):
        assert json.loads(shared.read_bytes(LEASE_FILE))["pid"] != first.pid
    assert shared.list() == []


def taken(store: Store):
    return lease(store, what="another test")


def test_a_dead_lease_from_elsewhere_is_watched_then_taken(shared: Store, quick: None):
    shared.write_bytes(LEASE_FILE, json.dumps(asdict(ELSEWHERE)).encode())
    told: list[str] = []
    with lease(shared, what="a test", waiting=told.append):
        assert json.loads(shared.read_bytes(LEASE_FILE))["what"] == "a test"
    (line,) = told
    assert "edit-dataset on far; watching for up to 0.5 s" in line


def test_a_living_lease_from_elsewhere_is_left_alone(local_store: Store, quick: None):
    done = Event()

    def beat() -> None:
        for count in range(10_000):
            local_store.write_bytes(LEASE_FILE, json.dumps(asdict(replace(ELSEWHERE, beat=count))).encode())
            if done.wait(0.02):
                return

    writer = Thread(target=beat)
    writer.start()
    try:
        while not local_store.exists(LEASE_FILE):
            time.sleep(0.01)
        with pytest.raises(HeldError, match=r"edit-dataset on far \(process 4711\)"), taken(local_store):
            pass
    finally:
        done.set()
        writer.join()


def test_an_old_lease_from_elsewhere_is_taken_at_once(local_store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "_is_alive", None)
    old = replace(ELSEWHERE, written=time.time() - 2 * leases.OLD_SECONDS)
    local_store.write_bytes(LEASE_FILE, json.dumps(asdict(old)).encode())
    with taken(local_store):
        pass


@pytest.mark.parametrize("died_at", [(1,), (2,), (3,), (4,), (2, 3), (3, 3), (4, 4), (3, 4, 2)])
def test_writers_that_die_while_they_take_over_leave_nothing_to_those_after_them(
    shared: Store, died_at: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    first = holding(shared)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    for index, steps in enumerate(died_at):
        dying(monkeypatch, shared, steps, index)
    with taken(shared):
        assert shared.list() == [LEASE_FILE]
    assert shared.list() == []


def dying(monkeypatch: pytest.MonkeyPatch, store: Store, steps: int, index: int) -> None:
    """Another process that takes the lease over, and dies after so many requests that change the store."""
    left = steps

    def dies(real: Any) -> Any:
        def request(*given: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*given)

        return request

    with monkeypatch.context() as patch:
        patch.setattr(leases, "_started", lambda pid: f"gone {index}")  # dead, for whoever looks later
        for name in ("create_bytes", "write_bytes", "delete"):
            patch.setattr(store, name, dies(getattr(store, name)), raising=False)
        with pytest.raises(Killed), taken(store):
            pass


def test_of_many_that_follow_a_dead_process_one_has_the_lease_at_a_time(shared: Store):
    first = holding(shared)
    first.kill()
    first.communicate(timeout=60)
    inside: list[int] = []
    most: list[int] = []
    refused: list[int] = []

    def follow(number: int) -> None:
        try:
            with taken(shared):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.05)
                inside.remove(number)
        except HeldError:
            refused.append(number)

    threads = [Thread(target=follow, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) + len(refused) == 8
    assert shared.list() == []


def test_a_holder_gives_signs_of_life_and_stops_when_another_took_over(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.5)
    with taken(local_store):
        end = time.monotonic() + 60
        while json.loads(local_store.read_bytes(LEASE_FILE))["beat"] < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert json.loads(local_store.read_bytes(LEASE_FILE))["beat"] >= 2
        local_store.write_bytes(LEASE_FILE, json.dumps(asdict(ELSEWHERE)).encode())
        time.sleep(1.1)
    assert json.loads(local_store.read_bytes(LEASE_FILE)) == asdict(ELSEWHERE)


def test_what_is_no_lease_is_taken_away(local_store: Store):
    local_store.write_bytes(LEASE_FILE, b"{")
    with taken(local_store):
        pass
    assert local_store.list() == []


def test_memory_has_none():
    with taken(Store("memory://leases")):
        assert Store("memory://leases").list() == []


def test_a_lease_alone_leaves_no_folder_behind(local_store: Store):
    with lease(local_store, what="a test"):
        assert local_store.exists(LEASE_FILE)
    assert not Path(local_store.uri).exists()
    with lease(local_store, what="a test"):
        local_store.write_bytes("kept", b"x")
    assert local_store.read_bytes("kept") == b"x"
