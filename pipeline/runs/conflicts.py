"""Two settings in one run folder: refused before any work, with the names of what differs. So is a run that shrinks."""

from collections.abc import Mapping
from typing import Any

import storage
from pipeline import __version__
from pipeline.config import StageConfig
from pipeline.packs.pack import Pack
from pipeline.runs.contents import same_contents
from pipeline.runs.growth import read_last_stage
from pipeline.runs.shard import Contents
from storage import ConflictError, CorruptError, Store

MOST_NAMED = 8  # differences in one message


def is_closed(store: Store, stage: str, *, config_hash: str, contents: Contents | None = None) -> bool:
    """Whether the stage was closed with these settings, and made of this."""
    closed = storage.read_stage(store, stage)
    if closed is None or closed["config_hash"] != config_hash:
        return False
    return same_contents(closed.get("contents", {}), contents or {})


def forget_other_settings(store: Store, stage: str, *, config_hash: str) -> None:
    """Delete the shards of a stage that were made with other settings: for views, which may always be made anew.

    Args:
        store: the view's folder.
        stage: name of the stage.
        config_hash: of what will be made; shards with this hash stay.
    """
    closed = storage.read_stage(store, stage)
    if closed is not None and closed["config_hash"] == config_hash:
        return
    store.delete(f"_{stage}.json")
    for shard in storage.list_shards(store, stage):
        try:
            done = storage.read_shard(store, stage, shard)
        except CorruptError:
            done = None
        if done is None or done.config_hash != config_hash:
            storage.remove_shard(store, stage, shard)


def check_same_settings(
    store: Store,
    stage: str,
    *,
    config_hash: str,
    config: StageConfig,
    pack: Pack,
    facts: Mapping[str, Any],
    contents: Contents | None = None,
) -> None:
    """Nothing, if the run does not hold this stage yet, or holds it made with the same settings and of no more.

    Args:
        store: the run's folder.
        stage: name of the stage.
        config_hash: of what would be made.
        config: its settings.
        pack: its pack.
        facts: what it depends on besides, as recorded when the stage is closed.
        contents: what it would be made of, see ``check_grows``.
    Raises:
        ConflictError: naming the settings that differ, as ``psi: 0.7 -> 0.5``; or what is missing.
    """
    closed = read_last_stage(store, stage)
    if closed is None:
        return
    if closed["config_hash"] == config_hash:
        check_grows(store, stage, contents or {})
        return
    known = {name: value for name, value in closed.get("config", {}).items() if name not in config.grows}
    wanted = {name: value for name, value in config.identity().items() if name not in config.grows}
    before = {
        **known,
        "pack": closed.get("pack_digest"),
        "code version": closed.get("code_version"),
        **closed.get("facts", {}),
    }
    now = {**wanted, "pack": pack.digest, "code version": __version__, **facts}
    differences = _differences(before, now)
    named = "; ".join(differences[:MOST_NAMED]) or "an earlier stage"
    more = f"; and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
    raise ConflictError(
        f"{store.uri} must hold the results of one config; {stage} there was made with other settings: {named}{more}. "
        f"Choose another run folder, take the former settings, or delete {stage} there."
    )


def check_grows(store: Store, stage: str, contents: Contents) -> None:
    """Nothing, if the stage would be made of all that it was made of, and perhaps of more.

    Numbers (``num_latents``) must not fall; of mappings (``prompt``, by name) every entry must stay as it is. Anything
    else is what an earlier stage came to, which answers for itself.

    Args:
        store: the run's folder.
        stage: name of the stage.
        contents: what it would be made of.
    Raises:
        ConflictError: naming what is gone or has changed.
    """
    closed = read_last_stage(store, stage)
    if closed is None:
        return
    lost = []
    for name, new in contents.items():
        old = closed.get("contents", {}).get(name)
        if isinstance(old, int) and isinstance(new, int) and new < old:
            lost.append(f"{name}: {old} -> {new}")
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            kept = {key: new[key] for key in old if key in new}
            lost += [f"{name} {difference}" for difference in _differences(old, kept)]
    if lost:
        named = "; ".join(lost[:MOST_NAMED])
        more = f"; and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
        raise ConflictError(
            f"{store.uri} may grow, but what it holds must stay; {stage} there would lose or change: {named}{more}. "
            f"Ask for all that it holds and more, or choose another run folder."
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``name: old -> new`` for every value that differs, nested mappings key by key."""
    named = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            named += [f"{name} {inner}" for inner in _differences(old, new)]
        elif old is None and _is_digest(new):
            named.append(f"{name} added")
        elif new is None and _is_digest(old):
            named.append(f"{name} gone")
        elif _is_digest(old) and _is_digest(new):
            named.append(f"{name} changed")
        else:
            named.append(f"{name}: {old} -> {new}")
    return named


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 12 and all(c in "0123456789abcdef" for c in value)
