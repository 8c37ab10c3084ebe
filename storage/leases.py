"""One writer at a time per folder: a lease, taken by creating a file, kept alive by writing it again, then deleted.

A writer that dies leaves its lease behind. On its own machine the next writer sees that the process is gone and takes
over at once; from elsewhere it watches the lease for as long as a living writer would need to write it again. No clock
of one machine is compared with another's, except that a lease an hour old is taken to be dead.

The lease keeps two runs from working on the same thing; it is not what results rest on. Those are written whole,
receipts last, with a hash of every file, and a shard made with other settings is refused whoever holds the lease.
"""

import json
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread

from fsspec.utils import get_protocol

from storage.errors import HeldError, MissingError, StorageError
from storage.places import LOCAL_PROTOCOLS
from storage.store import Store

LEASE_FILE = "_lease.json"  # the underscore keeps readers of the folder out
BEAT_SECONDS = 10.0  # between two signs of life
WATCH_SECONDS = 45.0  # without one, after which a lease is taken to be dead
OLD_SECONDS = 3600.0  # no clocks differ by more


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        token: of this lease, like no other.
        what: what it does, in words.
        host: name of its machine.
        machine: the machine as processes see it: the same only where process ids can be compared.
        pid: its process id.
        started: when that process was started, in the machine's own count; tells it from a later one of the same id.
        beat: counts its signs of life.
        written: seconds since 1970, by its machine's clock.
        after: token of the dead writer whose lease this one took over, while the claim to it may still be there.
    """

    token: str
    what: str
    host: str
    machine: str
    pid: int
    started: str
    beat: int
    written: float
    after: str = ""


@contextmanager
def lease(store: Store, *, what: str, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a folder's lease in this context; ``memory://``, which no other process sees, has none.

    Args:
        store: the folder.
        what: what is done, for whoever is refused.
        waiting: told in one line where a lease has to be watched.
    Raises:
        HeldError: if another writer is alive; says who, and since when it has not been heard of.
    """
    if get_protocol(store.uri) == "memory":
        yield
        return
    mine = Holder(uuid.uuid4().hex, what, platform.node(), _machine(), os.getpid(), _started(os.getpid()), 0, _now())
    _take(store, mine, waiting)
    done = Event()
    beating = Thread(target=_beat, args=(store, mine, done), name="lease", daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        held = _read(store)
        if held is not None and held.token == mine.token:
            store.delete(LEASE_FILE)
            _forget_empty(store)


def _forget_empty(store: Store) -> None:
    """A local folder in which nothing was written but the lease is none: a run that was refused leaves no trace."""
    if get_protocol(store.uri) in LOCAL_PROTOCOLS:
        with suppress(OSError):  # there is something in it
            Path(store.uri).rmdir()


def _take(store: Store, mine: Holder, waiting: Callable[[str], None] | None) -> None:
    while not store.create_bytes(LEASE_FILE, _bytes(mine)):
        held = _read(store)
        if held is None:  # given back, or torn, since
            continue
        if held.token == mine.token:  # by a try of ours whose answer was lost
            return
        if not _is_dead(held) and _is_alive(store, held, waiting):
            raise HeldError(
                f"{store.uri} can have one writer at a time; {held.what} on {held.host} (process {held.pid}) writes "
                f"it. Wait for it or stop it; {WATCH_SECONDS:g} seconds after it died its lease is free."
            )
        if _take_over(store, held, mine, waiting):
            return


def _take_over(store: Store, dead: Holder, mine: Holder, waiting: Callable[[str], None] | None) -> bool:
    """Put a dead writer's lease into our name, unless another was quicker.

    One of those who try makes the claim; whoever makes it later, once it is gone, finds the lease in another's name.
    Who dies before taking its claim away leaves it to the next, who finds its name in the lease.
    """
    claim = _claim(dead.token)
    if not store.create_bytes(claim, _bytes(mine)):
        other = _read(store, claim)
        if other is not None and other.token != mine.token:
            if not _is_dead(other) and _is_alive(store, other, waiting, claim):
                return False
            store.delete(claim)
            return False
    try:
        current = _read(store)
        if current is None or current.token != dead.token:
            return False
        if dead.after:
            store.delete(_claim(dead.after))
        store.write_bytes(LEASE_FILE, _bytes(replace(mine, after=dead.token)))
        return True
    finally:
        store.delete(claim)


def _claim(token: str) -> str:
    return f"_lease_after_{token}.json"


def _is_dead(held: Holder) -> bool:
    """Whether the holder's process is surely gone."""
    if held.machine == _machine():
        return _started(held.pid) != held.started
    return _now() - held.written > OLD_SECONDS


def _is_alive(store: Store, held: Holder, waiting: Callable[[str], None] | None, path: str = LEASE_FILE) -> bool:
    """Watch a lease: true once its holder, or its successor, gives a sign of life."""
    if held.machine == _machine():
        return True
    if waiting is not None:
        waiting(
            f"{store.uri} was being written by {held.what} on {held.host}; "
            f"watching for up to {WATCH_SECONDS:g} s whether it still is"
        )
    end = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, WATCH_SECONDS / 10))
        now = _read(store, path)
        if now is None:
            return False
        if (now.token, now.beat) != (held.token, held.beat):
            return True
    return False


def _beat(store: Store, mine: Holder, done: Event) -> None:
    """Give signs of life until done, or until another has taken over."""
    beat = 0
    while not done.wait(BEAT_SECONDS):
        try:
            held = _read(store)
            if held is None or held.token != mine.token:
                return
            beat += 1
            store.write_bytes(LEASE_FILE, _bytes(replace(mine, beat=beat, written=_now())))
        except StorageError:
            continue  # the run itself will say so where it matters


def _read(store: Store, path: str = LEASE_FILE) -> Holder | None:
    """Who holds the lease; None if nobody does. What is no lease is taken away."""
    try:
        return Holder(**json.loads(store.read_bytes(path)))
    except MissingError:
        return None
    except (ValueError, TypeError):
        store.delete(path)
        return None


def _bytes(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder), indent=2) + "\n").encode()


def _now() -> float:
    return time.time()


def _machine() -> str:
    """Machine, start of its system and space of process ids: in two containers the same id is two processes."""
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(path) if path.startswith("/proc/self") else Path(path).read_text().strip())
        except OSError:
            continue
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a process was started, empty if there is none; where the system does not say, whether there is one."""
    try:
        fields_after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields_after_name[0] in "ZX" else fields_after_name[19]  # a zombie works no more
    except OSError:
        pass
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
