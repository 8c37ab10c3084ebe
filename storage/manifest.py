"""Receipts: what a shard wrote and from which config. The receipt is written last, and is the only cache."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, TypedDict

from storage.errors import ConflictError, CorruptError, MissingError
from storage.store import Store

SHARDS_FOLDER = "_shards"  # the underscore keeps readers of the dataset's folder out
READERS = 16  # manifests read at a time; an object store answers in some 30 ms, whatever their size
READ_AHEAD = 1_024  # manifests asked for before the first is needed


class OutputRecord(TypedDict):
    """Size and digest of one written file.

    Attributes:
        bytes: its size.
        sha256: of its content, hexadecimal.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardManifest:
    """The receipt of one shard.

    Attributes:
        stage: the stage's name.
        shard: the shard's number, from 0.
        config_hash: of the config that the shard was made with (``config_hash``).
        pack_digest: of the model pack.
        code_version: of this project.
        rows: rows written.
        outputs: the files written, by path.
        failures: rows among them that bad input made fail.
        contents: which part of the inputs it was made of, as JSON; a run that grows asks by it which shards stay.
    """

    stage: str
    shard: int
    config_hash: str
    pack_digest: str
    code_version: str
    rows: int
    outputs: dict[str, OutputRecord]
    failures: int
    contents: dict[str, Any] = field(default_factory=dict)


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the config as canonical JSON; the order of its keys does not matter.

    Args:
        config: None, booleans, numbers, strings, lists and mappings of these, such as pydantic's
            ``model_dump(mode="json")``. Tuples count as lists; 1 and 1.0 differ.
    Returns:
        64 hexadecimal digits.
    Raises:
        ValueError: for NaN, infinity, a key that is no string, or any other type; names the place.
    """
    text = json.dumps(_plain(config, "config"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_shard(
    store: Store,
    *,
    stage: str,
    shard: int,
    config_hash: str,
    pack_digest: str,
    code_version: str,
    rows: int,
    failures: int,
    files: Mapping[str, bytes],
    contents: Mapping[str, Any] | None = None,
    writers: int = 1,
) -> ShardManifest:
    """Write a shard's files, then its manifest at ``_shards/{stage}/{shard:05d}.json``.

    A crash before the last write leaves no manifest, or an old one that does not match the files: not done either way.

    Args:
        store: the run's output folder.
        stage: name of the stage, one part of a path.
        shard: number of the shard, from 0.
        config_hash: from ``config_hash``; whatever must not be mixed in one folder belongs in that config.
        pack_digest: of the model pack.
        code_version: of this project.
        rows: rows in the files.
        failures: rows among them with an error.
        files: content by path, relative to the store.
        contents: which part of the inputs the shard was made of; may change from run to run where the config may not.
        writers: files written at a time: for many small ones, each of which waits for the disk or the network.
    Raises:
        ValueError: if ``stage`` or ``shard`` cannot name a manifest.
        ConflictError: if the shard has a manifest of another config; nothing is written.
    """
    _own_manifest(store, stage, shard, config_hash)  # for its ConflictError
    manifest = ShardManifest(
        stage=stage,
        shard=shard,
        config_hash=config_hash,
        pack_digest=pack_digest,
        code_version=code_version,
        rows=rows,
        outputs={path: _record(data) for path, data in files.items()},
        failures=failures,
        contents=_plain(contents or {}, "contents"),
    )
    if writers == 1:
        for path, data in files.items():
            store.write_bytes(path, data)
    else:
        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(store.write_bytes, files, files.values()))
    store.write_bytes(_shard_path(stage, shard), _json_bytes(asdict(manifest), "manifest"))
    return manifest


def read_shard(store: Store, stage: str, shard: int) -> ShardManifest | None:
    """The manifest of a shard, or None if it has none. The files it names are not looked at.

    Raises:
        CorruptError: if the manifest cannot be parsed, or is that of another shard.
    """
    path = _shard_path(stage, shard)
    payload = _read_json(store, path)
    if payload is None:
        return None
    manifest = _parsed(payload, f"{store.uri}/{path}")
    if (manifest.stage, manifest.shard) != (stage, shard):
        raise CorruptError(
            f"{store.uri}/{path} must be the manifest of {stage} {shard}; "
            f"got that of {manifest.stage} {manifest.shard}. Delete it and run the shard again."
        )
    return manifest


def read_shards(store: Store, stage: str, shards: Sequence[int]) -> Iterator[ShardManifest | None]:
    """The manifests of many shards in their order, read many at a time: each waits for the disk or the network.

    Raises:
        CorruptError: see ``read_shard``.
    """
    if len(shards) <= READERS:
        yield from (read_shard(store, stage, shard) for shard in shards)
        return
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(shards), READ_AHEAD):
            yield from pool.map(partial(read_shard, store, stage), shards[start : start + READ_AHEAD])


def delete_shard(store: Store, stage: str, shard: int) -> None:
    """Take back a shard's manifest, so that the shard is made again; its files stay until then.

    Args:
        store: the run's output folder.
        stage: name of the stage.
        shard: number of the shard; nothing happens if it has no manifest.
    """
    store.delete(_shard_path(stage, shard))


def remove_shard(store: Store, stage: str, shard: int) -> None:
    """Delete a shard: its files first and then its manifest, so that a crash leaves no file that nobody answers for.

    Args:
        store: the run's output folder.
        stage: name of the stage.
        shard: number of the shard; nothing happens if it has no manifest. Of one that cannot be parsed the files are
            not known, and stay.
    """
    try:
        manifest = read_shard(store, stage, shard)
    except CorruptError:
        manifest = None
    for path in () if manifest is None else manifest.outputs:
        store.delete(path)
    delete_shard(store, stage, shard)


def is_done(
    store: Store, stage: str, shard: int, *, config_hash: str, contents: Mapping[str, Any] | None = None
) -> bool:
    """Whether the shard need not be run: its manifest is there and every file has the recorded size and SHA-256.

    Every file is read. No manifest, one that cannot be parsed or is of other contents, or a file missing or damaged:
    False.

    Args:
        store: the run's output folder.
        stage: name of the stage.
        shard: number of the shard.
        config_hash: of the config that would be run now.
        contents: which part of the inputs it would be made of now, as in ``write_shard``.
    Raises:
        ConflictError: if the manifest was written with another config.
    """
    manifest = _own_manifest(store, stage, shard, config_hash)
    if manifest is None or manifest.contents != _plain(contents or {}, "contents"):
        return False
    return all(is_intact(store, path, record) for path, record in manifest.outputs.items())


def list_shards(store: Store, stage: str) -> list[int]:
    """Numbers of the shards that have a manifest, in order; nothing is said of what is in it."""
    folder = _stage_folder(stage)
    names = (path.removeprefix(f"{folder}/").removesuffix(".json") for path in store.list(folder))
    return sorted(int(name) for name in names if name.isdecimal())


def shard_outputs(store: Store, stage: str) -> list[str]:
    """Paths of all files of a stage, shard by shard in the order of their numbers, sorted within each; [] if none.

    Raises:
        CorruptError: if a manifest cannot be parsed.
    """
    manifests = read_shards(store, stage, list_shards(store, stage))
    return [path for manifest in manifests if manifest is not None for path in sorted(manifest.outputs)]


def write_stage(store: Store, name: str, payload: Mapping[str, Any]) -> None:
    """Close a stage: write what it came to at ``_{name}.json``; the same payload gives the same bytes.

    Args:
        store: the run's output folder.
        name: of the stage.
        payload: JSON, as for ``config_hash``.
    Raises:
        ValueError: if the payload is not JSON.
    """
    store.write_bytes(f"_{name}.json", _json_bytes(payload, "payload"))


def read_stage(store: Store, name: str) -> dict[str, Any] | None:
    """What ``write_stage`` wrote, or None if it is not there.

    Raises:
        CorruptError: if it is not a JSON object.
    """
    return _read_json(store, f"_{name}.json")


def _own_manifest(store: Store, stage: str, shard: int, config_hash: str) -> ShardManifest | None:
    """The shard's manifest, None if there is none to go by; ConflictError if another config made it."""
    try:
        manifest = read_shard(store, stage, shard)
    except CorruptError:
        return None
    if manifest is not None and manifest.config_hash != config_hash:
        raise ConflictError(
            f"{store.uri} must hold the results of one config; shard {shard} of {stage} there has config hash "
            f"{manifest.config_hash[:12]}, this run has {config_hash[:12]}. "
            f"Choose another output folder, or delete this one."
        )
    return manifest


def is_intact(store: Store, path: str, record: OutputRecord) -> bool:
    """Whether a file is there and has the recorded size and SHA-256; it is read for that."""
    try:
        return _record(store.read_bytes(path)) == record
    except MissingError:
        return False


def _record(data: bytes) -> OutputRecord:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _stage_folder(stage: str) -> str:
    if not stage or "/" in stage:
        raise ValueError(f"a stage's name must be one part of a path; got {stage!r}.")
    return f"{SHARDS_FOLDER}/{stage}"


def _shard_path(stage: str, shard: int) -> str:
    if shard < 0:
        raise ValueError(f"a shard's number must be 0 or more; got {shard}.")
    return f"{_stage_folder(stage)}/{shard:05d}.json"


def _json_bytes(payload: Mapping[str, Any], name: str) -> bytes:
    return (json.dumps(_plain(payload, name), sort_keys=True, indent=2, allow_nan=False) + "\n").encode("ascii")


def _read_json(store: Store, path: str) -> dict[str, Any] | None:
    try:
        payload = json.loads(store.read_bytes(path))
    except MissingError:
        return None
    except ValueError as error:
        raise CorruptError(f"{store.uri}/{path} must be JSON; got: {error}. Delete it and run again.") from error
    if not isinstance(payload, dict):
        raise CorruptError(
            f"{store.uri}/{path} must be a JSON object; got {type(payload).__name__}. Delete it and run again."
        )
    return payload


def _parsed(payload: dict[str, Any], uri: str) -> ShardManifest:
    expected = {column.name for column in fields(ShardManifest)}
    payload = {"contents": {}, **payload}  # a manifest of an earlier version has none
    outputs = payload.get("outputs")
    if (
        set(payload) != expected
        or not isinstance(payload["contents"], dict)
        or not isinstance(outputs, dict)
        or not all(map(_is_record, outputs.values()))
    ):
        raise CorruptError(
            f"{uri} must be a shard's manifest with the fields {sorted(expected)}; got {sorted(payload)}. "
            f"Delete it and run the shard again."
        )
    return ShardManifest(**payload)


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and set(record) == {"bytes", "sha256"}


def _plain(value: Any, where: str) -> Any:
    """The value in JSON's own types, or a ValueError that names the place where it has none."""
    if isinstance(value, Mapping):
        _check_keys(value, where)
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be a finite number; got {value}. JSON has no NaN and no infinity; use None.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{where} must be JSON (None, bool, number, string, list, mapping); got {type(value).__name__}.")


def _check_keys(value: Mapping[Any, Any], where: str) -> None:
    others = [key for key in value if not isinstance(key, str)]
    if others:
        raise ValueError(f"the keys of {where} must be strings (JSON would make 1 and '1' one key); got {others}.")
