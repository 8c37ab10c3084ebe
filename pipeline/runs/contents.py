"""What shards are made of: digests of latents and prompts, by which a run that grows knows what stays valid."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

import storage

LENGTH = 16  # hexadecimal digits; enough to tell a few million latents apart


def digest(value: Any) -> str:
    """Digest of any JSON value."""
    return storage.config_hash({"value": value})[:LENGTH]


def latent_keys(table: pa.Table) -> list[list[str]]:
    """``[latent_id, digest]`` of every row of the latents, in order; of the vector and whether it can be used."""
    keys = []
    names = [name for name in ("latent_id", "generator_delta", "status", "error") if name in table.column_names]
    facts = table.select(names).to_pylist()
    for told, w_plus in zip(facts, storage.stack(table["w_plus"]), strict=True):
        latent_id = told.pop("latent_id")
        found = hashlib.sha256(repr(sorted(told.items())).encode())
        found.update(w_plus.tobytes())
        keys.append([latent_id, found.hexdigest()[:LENGTH]])
    return keys


def keys_of(entries: Iterable[tuple[str, Any]]) -> list[list[str]]:
    """``[id, digest]`` of every entry, in order."""
    return [[name, digest(value)] for name, value in entries]


def same_keys(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> set[str]:
    """Ids that two contents have in common under a name, with the same digest."""
    return {key for key, _ in {tuple(x) for x in a.get(name, ())} & {tuple(x) for x in b.get(name, ())}}


def same_contents(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two contents are one and the same, of which one has been through JSON and lost its tuples."""
    return storage.config_hash(recorded) == storage.config_hash(wanted)
