"""What a run's folder holds, by its receipts: stages, rows, sizes and times; what is damaged, and what nobody needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from storage.entries import Entry
from storage.errors import CorruptError
from storage.manifest import SHARDS_FOLDER, ShardManifest, delete_shard, is_intact, read_shard, read_stage
from storage.store import Store

DEEPEST = 4  # folders below the one that is searched for runs
YOUNGEST_LEFTOVER = timedelta(minutes=10)  # a younger temporary file may be somebody's write of this moment


@dataclass(frozen=True)
class StageState:
    """One stage of a run.

    Attributes:
        stage: its name.
        whole: whether it is closed, and every shard that the closing counts has its receipt. None for a stage whose
            files are working files of a later one, in a folder that starts with "_": it is never closed.
        shards: receipts that are there.
        of_shards: shards that the closing counts; None where the stage was not closed.
        rows: rows of these shards.
        failures: rows among them that failed.
        bytes: of the files that the receipts name.
        files: how many these are.
        first, last: when the first and the last receipt were written, in UTC; None where the store does not say.
        config: the settings by the closing; {} before it.
        pack, code_version: by the closing, or "" before it.
    """

    stage: str
    whole: bool | None
    shards: int
    of_shards: int | None
    rows: int
    failures: int
    bytes: int
    files: int
    first: datetime | None
    last: datetime | None
    config: dict[str, object]
    pack: str
    code_version: str


@dataclass(frozen=True)
class Damage:
    """A shard that must be made again, or a stage that must be closed again.

    Attributes:
        stage: of which stage.
        shard: which shard; None for the closing.
        reason: what is wrong, with the path.
    """

    stage: str
    shard: int | None
    reason: str


@dataclass(frozen=True)
class Waste:
    """A file that nothing needs.

    Attributes:
        path: inside the run.
        bytes: its size.
        reason: why nothing needs it.
    """

    path: str
    bytes: int
    reason: str


def find_runs(store: Store, *, inner: bool = False) -> Iterator[Store]:
    """The runs at and below a folder, four folders deep at most.

    Only names of folders are listed, one folder at a time, and never a stage's own files.

    Args:
        store: where to look.
        inner: also the runs inside of runs: galleries, and a comparison's runs of each method.
    """
    yield from _runs_below(store, DEEPEST, inner)


def _runs_below(store: Store, depth: int, inner: bool) -> Iterator[Store]:
    folders = [entry.name for entry in store.entries() if entry.is_folder]
    stages: set[str] = set()
    if SHARDS_FOLDER in folders:
        yield store
        if not inner:
            return
        stages = {SHARDS_FOLDER} | {
            path.split("/")[0] for stage in _stages(store) for path in _first_named(store, stage)
        }
    if depth:
        for name in sorted(set(folders) - stages):
            if not inner and name.startswith("_"):
                continue  # a run that another one works with
            yield from _runs_below(store.child(name), depth - 1, inner)


def _first_named(store: Store, stage: str) -> list[str]:
    """Files of a stage's first shard: where the stage's files are."""
    first = next(iter(sorted(_receipts(store, stage))), None)
    try:
        done = None if first is None else read_shard(store, stage, first)
    except CorruptError:
        return []
    return [] if done is None else [path for path in done.outputs if "/" in path]


def read_states(store: Store) -> list[StageState]:
    """Every stage of a run, in the order in which they were begun.

    Reads each receipt once and lists each folder of receipts once; looks at no file that a receipt names.

    Raises:
        CorruptError: if a receipt or a closing cannot be parsed.
    """
    states = [_state(store, stage) for stage in _stages(store)]
    return sorted(states, key=lambda state: (state.first or datetime.max.replace(tzinfo=UTC), state.stage))


def _state(store: Store, stage: str) -> StageState:
    closed = read_stage(store, stage)
    receipts = _receipts(store, stage)
    count = len(receipts) if closed is None else int(closed["shards"])
    counted = [receipts[shard] for shard in sorted(receipts) if shard < count]
    manifests = [done for shard, _ in counted if (done := read_shard(store, stage, shard)) is not None]
    whole: bool | None = (
        None
        if closed is None and _is_working(manifests)
        else closed is not None and len(manifests) == count and not _differs(closed, manifests)
    )
    times = [entry.modified for _, entry in counted if entry.modified is not None]
    sizes = [record["bytes"] for done in manifests for record in done.outputs.values()]
    return StageState(
        stage=stage,
        whole=whole,
        shards=len(manifests),
        of_shards=None if closed is None else count,
        rows=sum(done.rows for done in manifests),
        failures=sum(done.failures for done in manifests),
        bytes=sum(sizes),
        files=len(sizes),
        first=min(times, default=None),
        last=max(times, default=None),
        config={} if closed is None else dict(closed.get("config", {})),
        pack="" if closed is None else str(closed.get("pack", "")),
        code_version="" if closed is None else str(closed.get("code_version", "")),
    )


def find_damage(store: Store) -> Iterator[Damage]:
    """Read every file that a receipt names, and yield what does not agree; nothing is changed.

    Raises:
        StorageError: if the store itself cannot be read.
    """
    for stage in _stages(store):
        manifests: list[ShardManifest] = []
        receipts = sorted(_receipts(store, stage))
        for shard in receipts:
            try:
                done = read_shard(store, stage, shard)
            except CorruptError as error:
                yield Damage(stage, shard, str(error))
                continue
            assert done is not None
            manifests.append(done)
            for path, record in sorted(done.outputs.items()):
                if not is_intact(store, path, record):
                    state = "is damaged" if store.exists(path) else "is missing"
                    yield Damage(stage, shard, f"{path} {state}")
        yield from _damage_of_closing(store, stage, receipts, manifests)


def _damage_of_closing(
    store: Store, stage: str, receipts: list[int], manifests: list[ShardManifest]
) -> Iterator[Damage]:
    try:
        closed = read_stage(store, stage)
    except CorruptError as error:
        yield Damage(stage, None, str(error))
        return
    if closed is None and _is_working(manifests):
        return
    if closed is None:
        yield Damage(stage, None, f"it was begun and not finished: {len(receipts)} shards are done")
        return
    lost = sorted(set(range(int(closed["shards"]))) - set(receipts))
    for shard in lost:
        yield Damage(stage, shard, "its receipt is missing")
    if not lost and _differs(closed, manifests):
        yield Damage(stage, None, f"_{stage}.json does not agree with the receipts")


def _is_working(manifests: list[ShardManifest]) -> bool:
    paths = [path for done in manifests for path in done.outputs]
    return bool(paths) and all(path.startswith("_") for path in paths)


def _differs(closed: dict[str, object], manifests: list[ShardManifest]) -> bool:
    """Whether a closing counts other rows than the receipts, or was made from other settings."""
    count = int(str(closed["shards"]))
    counted = [done for done in manifests if done.shard < count]
    return sum(done.rows for done in counted) != closed["rows"] or any(
        done.config_hash != closed["config_hash"] for done in counted
    )


def find_waste(store: Store, *, now: datetime) -> Iterator[Waste]:
    """Files that a crash left: temporary ones, and those in a stage's folder that no receipt names.

    Args:
        store: the run's folder.
        now: temporary files of the last ten minutes are left alone; somebody may be writing them.
    """
    named = {path for stage in _stages(store) for path in _named(store, stage)}
    folders = {path.rpartition("/")[0] for path in named}
    for folder in sorted(folders | {"", SHARDS_FOLDER} | {f"{SHARDS_FOLDER}/{stage}" for stage in _stages(store)}):
        for entry in store.leftovers(folder):
            if entry.modified is None or now - entry.modified > YOUNGEST_LEFTOVER:
                yield Waste(_join(folder, entry.name), entry.bytes, "temporary file of a write that was cut off")
    for folder in sorted(folders - {""}):
        for entry in store.entries(folder):
            path = _join(folder, entry.name)
            young = entry.modified is not None and now - entry.modified <= YOUNGEST_LEFTOVER
            if not entry.is_folder and path not in named and not young:
                yield Waste(path, entry.bytes, "no receipt names it")


def _named(store: Store, stage: str) -> Iterator[str]:
    for shard in _receipts(store, stage):
        try:
            done = read_shard(store, stage, shard)
        except CorruptError:
            continue
        if done is not None:
            yield from done.outputs


def delete_waste(store: Store, waste: Waste) -> None:
    """Delete a file that ``find_waste`` found."""
    folder, _, name = waste.path.rpartition("/")
    if name.startswith("."):
        store.delete_leftover(folder, name)
    else:
        store.delete(waste.path)


def delete_stage(store: Store, stage: str) -> int:
    """Take a stage out of a run: its closing first, then receipts, then files, so that no moment shows it whole.

    Returns:
        files deleted, receipts not counted.
    """
    store.delete(f"_{stage}.json")
    deleted = 0
    for shard in sorted(_receipts(store, stage)):
        try:
            done = read_shard(store, stage, shard)
        except CorruptError:
            done = None
        delete_shard(store, stage, shard)
        for path in () if done is None else done.outputs:
            store.delete(path)
            deleted += 1
    return deleted


def _stages(store: Store) -> list[str]:
    """Stages with a receipt, and those that were closed and have lost all of theirs."""
    begun = [entry.name for entry in store.entries(SHARDS_FOLDER) if entry.is_folder]
    stages = [stage for stage in begun if _receipts(store, stage)]
    names = [entry.name for entry in store.entries() if not entry.is_folder]
    closings = [name[1:-5] for name in names if name.startswith("_") and name.endswith(".json")]
    return sorted({*stages, *(stage for stage in closings if stage not in stages and _is_closing(store, stage))})


def _is_closing(store: Store, stage: str) -> bool:
    try:
        return "shards" in (read_stage(store, stage) or {})
    except CorruptError:
        return False


def _receipts(store: Store, stage: str) -> dict[int, tuple[int, Entry]]:
    """Receipts by the number of their shard."""
    entries = store.entries(f"{SHARDS_FOLDER}/{stage}")
    numbers = [(entry.name.removesuffix(".json"), entry) for entry in entries if entry.name.endswith(".json")]
    return {int(number): (int(number), entry) for number, entry in numbers if number.isdecimal()}


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
