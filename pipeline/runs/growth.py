"""Runs that grow: more latents or more prompts in the same folder, where what exists stays valid.

Before a stage makes its first new shard:

1. The stage is opened again, and with it every stage of the folder that is made from it: their ``_<stage>.json`` move
   to ``_earlier/``. From here until each is closed anew, nothing in the folder reads as whole. A page, a card or a
   sheet that speaks for the whole run is deleted.
2. Shards that hold other latents or prompts than they will are moved to ``_earlier/<stage>-<digest>/``, where the stage
   finds the rows that it need not make again. All others stay as they are, byte for byte.

A run that was killed at any point goes on from there: a moved shard is a shard to be made, and what was moved is kept
until the stage is closed. Rows are taken over by the digests in the receipts, never by name alone.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import storage
from pipeline.errors import MissingInputError, SetAsideError
from pipeline.runs.contents import digest, same_contents
from pipeline.runs.shard import MADE_BY, Contents, Input
from storage import ShardManifest, Store

EARLIER = "_earlier"

# what is made from an artifact, in the same folder
MADE_FROM = {
    "latents": ("optimized_latents", "tedigan_latents", "edited_latents", "comparison"),
    "screened_directions": ("style_directions",),
    "style_directions": ("edited_latents",),
    "mappers": ("edited_latents",),
    "optimized_latents": ("edited_latents",),
    "tedigan_latents": ("edited_latents",),
    "edited_latents": ("dataset",),
    "dataset": ("scores", "photo_scores"),
    "scores": ("report",),
    "labels": ("balanced_labels",),
    "exported_dataset": ("dataset_card",),
    "gallery": ("gallery_page",),
}
OF_THE_WHOLE = ("report", "dataset_card", "gallery_page", "comparison")


def read_last_stage(store: Store, stage: str) -> dict[str, Any] | None:
    """What a stage was last closed with, also while it is open again; None if it never was."""
    return storage.read_stage(store, stage) or storage.read_stage(store.child(EARLIER), stage)


def open_again(
    store: Store,
    stage: str,
    *,
    num_shards: int,
    config_hash: str,
    contents: Contents,
    contents_of: Callable[[int], Contents],
    keep: bool,
) -> None:
    """Prepare a stage for the shards that it will have. Nothing happens to one that has these, or none at all.

    Args:
        store: the run's folder.
        stage: name of the stage.
        num_shards: shards that it will have.
        config_hash: of its settings.
        contents: what the whole stage will be made of.
        contents_of: what each shard will be made of.
        keep: whether the stage takes over rows of shards that it makes again; else they are deleted.
    """
    closed = storage.read_stage(store, stage)
    if closed is not None and closed["shards"] == num_shards and same_contents(closed.get("contents", {}), contents):
        return
    stale = dict(_stale_shards(store, stage, num_shards, config_hash, contents_of))
    if closed is None and not stale:
        return
    for name in (*_made_from(stage), stage):
        _take_back(store, name)
    if keep and stale:
        _set_aside(store, stage, stale)
    for shard in stale:
        storage.remove_shard(store, stage, shard)


def earlier_shards(store: Store, stage: str, *, config_hash: str) -> Iterator[tuple[Contents, Input, int]]:
    """Shards that were set aside: what each is made of, where to read it, and its number there."""
    for folder in _earlier_folders(store, stage):
        aside = store.child(f"{EARLIER}/{folder}")
        for shard, contents in _contents_aside(aside.uri, stage, config_hash):
            yield contents, Input(aside, stage, 0, 0, config_hash), shard


def forget_earlier(store: Store, stage: str) -> None:
    """Delete what was set aside of a stage: it is closed, and has taken over what it could."""
    for folder in _earlier_folders(store, stage):
        aside = store.child(f"{EARLIER}/{folder}")
        for shard in storage.list_shards(aside, stage):
            storage.remove_shard(aside, stage, shard)
    store.child(EARLIER).delete(f"_{stage}.json")


def check_made_of(made: Input, source: Input) -> None:
    """Nothing, if an artifact was made of its source as that is now, or does not record of what.

    Raises:
        MissingInputError: if the source has grown since.
    """
    if made.contents.get(source.stage, source.state) != source.state:
        raise MissingInputError(
            f"{made.stage} at {made.store.uri} must be made of {source.stage} as it is now; that at "
            f"{source.store.uri} has grown or is another. Run `styleclip {MADE_BY[made.stage]}` again."
        )


def _made_from(stage: str) -> list[str]:
    """The stages that stand on this one, the last first: what stands on a stage is opened before it."""
    found: list[str] = []
    for name in MADE_FROM.get(stage, ()):
        found += [*_made_from(name), name]
    return list(dict.fromkeys(found))


def _take_back(store: Store, stage: str) -> None:
    closed = storage.read_stage(store, stage)
    if closed is None:
        return
    storage.write_stage(store.child(EARLIER), stage, closed)
    store.delete(f"_{stage}.json")
    if stage in OF_THE_WHOLE:
        storage.delete_stage(store, stage)


def _stale_shards(
    store: Store, stage: str, num_shards: int, config_hash: str, contents_of: Callable[[int], Contents]
) -> Iterator[tuple[int, ShardManifest]]:
    """Shards with these settings that are made of other things than they will be, or that there will not be."""
    for shard in storage.list_shards(store, stage):
        try:
            done = storage.read_shard(store, stage, shard)
        except storage.CorruptError:
            continue  # made again by whoever runs the shard
        if done is None or done.config_hash != config_hash:
            continue  # a conflict, for whoever runs the shard to tell
        if shard >= num_shards or not _agrees(done.contents, contents_of, shard):
            yield shard, done


def _agrees(contents: Contents, contents_of: Callable[[int], Contents], shard: int) -> bool:
    """Whether a shard is what it will be; one whose input failed is not, though it may be once that is there."""
    try:
        return same_contents(contents, contents_of(shard))
    except SetAsideError:
        return False


def _set_aside(store: Store, stage: str, shards: Mapping[int, ShardManifest]) -> None:
    """Copy shards, so that they can be made anew in any order; one that is damaged is left behind."""
    name = digest([[shard, done.contents] for shard, done in shards.items()])
    aside = store.child(f"{EARLIER}/{stage}-{name}")
    for shard, done in shards.items():
        if not storage.is_done(store, stage, shard, config_hash=done.config_hash, contents=done.contents):
            continue
        storage.write_shard(
            aside,
            stage=stage,
            shard=shard,
            config_hash=done.config_hash,
            pack_digest=done.pack_digest,
            code_version=done.code_version,
            rows=done.rows,
            failures=done.failures,
            files={path: store.read_bytes(path) for path in done.outputs},
            contents=done.contents,
        )


def _earlier_folders(store: Store, stage: str) -> list[str]:
    """Folders with shards of the stage that were set aside."""
    inside = f"{EARLIER}/"
    folders = {path.removeprefix(inside).split("/")[0] for path in store.list(EARLIER)}
    return sorted(folder for folder in folders if folder.rpartition("-")[0] == stage)


@lru_cache(maxsize=64)
def _contents_aside(uri: str, stage: str, config_hash: str) -> list[tuple[int, Contents]]:
    """What is in a folder that was set aside; its name is made of its contents, so it is read once a process."""
    aside, found = Store(uri), []
    for shard in storage.list_shards(aside, stage):
        done = storage.read_shard(aside, stage, shard)
        if done is not None and done.config_hash == config_hash:
            found.append((shard, done.contents))
    return found
