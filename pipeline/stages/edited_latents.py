"""Edited latents: every latent with every edit of a prompt list, by whichever method, in one table to render from.

Letters: n latent, l row of w_plus, d w_dim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

import storage
from pipeline.config import EditedLatentsConfig
from pipeline.models.mapper import Mapper, load_mapper, moved_latents
from pipeline.packs.pack import Pack
from pipeline.prompts import Method
from pipeline.rows import EditedLatentRow, PromptRow, artifact_table
from pipeline.runs.contents import digest, latent_keys
from pipeline.runs.edits import Edits, trained_mappers
from pipeline.runs.shard import (
    Contents,
    Input,
    Made,
    ShardReport,
    count_shards,
    part_path,
    run_shard,
    shard_bounds,
    stage_hash,
)
from pipeline.schemas import DIRECTIONS_HASH, EDIT_PLAN, EDITED_LATENTS, EDITS_FOLDER, PROMPTS, shape_of, vectors_of
from storage import Store

STAGE = EDITED_LATENTS.name
SEARCHED: tuple[Method, ...] = ("optimize", "tedigan")  # a search per latent
LEFT_OUT = "left_out"  # status of a pair that a plan does not name


def edited_latents_hash(config: EditedLatentsConfig, pack: Pack, latents: Input, plan: Input | None = None) -> str:
    """The config hash of the edited latents, of whatever prompts; of those pairs that a plan names, if there is one."""
    inputs = {"latents": latents.config_hash} | ({} if plan is None else {EDIT_PLAN.name: plan.config_hash})
    return stage_hash(STAGE, config, pack, inputs)


def edited_latents_contents(table: pa.Table, edits: Edits) -> Contents:
    """What a shard is made of: a range of latents, and all prompts with what is known of them."""
    known = [
        digest([str(value) for name, value in vars(row).items() if name != "text_direction"]) for row in edits.rows
    ]
    return {"latents": latent_keys(table), "edits": edits.keys, "prompts": digest(known)}


def edited_latents_num_shards(config: EditedLatentsConfig, latents: Input) -> int:
    """Shards of a run."""
    return count_shards(latents.rows, config.shard_size)


def compute_moved_vectors(
    source: Float[np.ndarray, "x"], edited: Float[np.ndarray, "x"], strengths: Sequence[float]
) -> list[Float[np.ndarray, "x"]]:
    """``source + strength * (edited - source)`` for every strength; 1 returns ``edited`` itself, bit for bit.

    Where float32 ends, a vector holds infinity or NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return [edited if s == 1.0 else (source + s * (edited - source)).astype(np.float32) for s in strengths]


def run_edited_latents_shard(
    config: EditedLatentsConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    latents: Input,
    edits: Edits,
    plan: Input | None = None,
) -> ShardReport:
    """Write one range of latents with all their edits; shard 0 also writes the prompts.

    A latent or a pair that failed upstream keeps its rows, as failed ones; what ``plan`` does not name is left out.
    """
    bounds = shard_bounds(latents.rows, config.shard_size, shard)
    table = latents.slice_table(bounds.start, bounds.stop)

    def make() -> Made:
        w_plus = storage.stack(table["w_plus"]).reshape(table.num_rows, *shape_of(table, "w_plus"))
        pairs: dict[str, Mapping[tuple[str, str], _Edited]] = {
            method: _find_pairs(edits.sources[method], latents.rows, bounds)
            for method in SEARCHED
            if method in edits.sources
        }
        of_prompt = {row.prompt_id: _edit_latents(row, edits, pack, table, w_plus, pairs) for row in edits.usable}
        rows = [row for i in range(table.num_rows) for edited in of_prompt.values() for row in edited[i]]
        if plan is not None:
            rows = [_planned(row, _planned_edits(plan)) for row in rows]
        directions = edits.sources.get("global")
        metadata = {
            "w_plus_shape": w_plus.shape[1:],
            DIRECTIONS_HASH: None if directions is None else directions.config_hash,
        }
        moved = artifact_table(EDITED_LATENTS, rows, metadata=metadata)
        files = {part_path(STAGE, shard): storage.table_bytes(moved)}
        if shard == 0:
            listed = artifact_table(PROMPTS, edits.rows, widths={"text_direction": edits.text_width})
            files[part_path(EDITS_FOLDER, 0)] = storage.table_bytes(listed)
        return Made(files, rows=len(rows), failures=sum(row.status == "failed" for row in rows))

    return run_shard(
        store,
        STAGE,
        shard,
        config_hash=edited_latents_hash(config, pack, latents, plan),
        contents=edited_latents_contents(table, edits),
        pack=pack,
        make=make,
    )


def _planned(row: EditedLatentRow, planned: frozenset[tuple[str, str, float]]) -> EditedLatentRow:
    """The row, or one without an edit where the plan does not name it."""
    if (row.latent_id, row.edit_id, row.strength) in planned:
        return row
    return replace(row, vector=None, direction=None, status=LEFT_OUT, error=None)


@lru_cache(maxsize=2)
def _planned_edits(plan: Input) -> frozenset[tuple[str, str, float]]:
    """Every shard asks."""
    columns = plan.table(["latent_id", "prompt_id", "strength"]).columns
    return frozenset(zip(*(column.to_pylist() for column in columns), strict=True))


def _edit_latents(
    prompt: PromptRow,
    edits: Edits,
    pack: Pack,
    table: pa.Table,
    w_plus: Float[np.ndarray, "n l d"],
    pairs: "Mapping[str, Mapping[tuple[str, str], _Edited]]",
) -> list[list[EditedLatentRow]]:
    """Rows of one prompt: for every latent, one per strength."""
    if prompt.method == "global":
        edited = [_Edited("styles", direction=prompt.prompt_id)] * len(w_plus)
    elif prompt.method == "mapper":
        edited = _map_latents(edits.sources["mapper"], prompt.prompt_id, pack, w_plus)
    else:
        found = pairs[prompt.method]
        edited = [found.get((x, prompt.prompt_id), _NOT_OPTIMIZED) for x in table["latent_id"].to_pylist()]
    out = []
    for i, latent in enumerate(table.select(["latent_id", "status", "error"]).to_pylist()):
        error = latent["error"] or "the latent failed." if latent["status"] != "ok" else None
        if error is None and not np.isfinite(w_plus[i]).all():
            error = f"latent {latent['latent_id']!r} must be finite; it holds NaN."
        one = edited[i] if error is None else _Edited(edited[i].space, error=error)
        out.append(_rows(latent["latent_id"], prompt, one, w_plus[i], pack))
    return out


@dataclass(frozen=True)
class _Edited:
    """What a method makes of one latent: a vector, a direction, or why not."""

    space: str
    vector: np.ndarray | None = None
    direction: str | None = None
    error: str | None = None


_NOT_OPTIMIZED = _Edited("w_plus", error="the pair must be optimised; optimize-latents was run on other latents.")


def _rows(
    latent_id: str, prompt: PromptRow, edited: _Edited, w_plus: Float[np.ndarray, "l d"], pack: Pack
) -> list[EditedLatentRow]:
    vectors: Sequence[np.ndarray | None] = [None] * len(prompt.strengths)
    if edited.vector is not None and all(s == 1.0 for s in prompt.strengths):
        vectors = [edited.vector] * len(prompt.strengths)
    elif edited.vector is not None:
        source = _styles(pack, w_plus) if edited.space == "styles" else w_plus.reshape(-1)
        vectors = compute_moved_vectors(source, edited.vector, prompt.strengths)
    rows = []
    for strength, vector in zip(prompt.strengths, vectors, strict=True):
        error = edited.error
        if error is None and vector is not None and not np.isfinite(vector).all():
            why = "lower the strength" if strength != 1.0 else f"what {prompt.method} found is not"
            error = f"the edited latent must be finite; at strength {strength:g} it is not: {why}."
        rows.append(
            EditedLatentRow(
                latent_id=latent_id,
                edit_id=prompt.prompt_id,
                strength=strength,
                space=edited.space,
                vector=vector if error is None else None,
                direction=edited.direction if error is None else None,
                status="ok" if error is None else "failed",
                error=error,
            )
        )
    return rows


def _styles(pack: Pack, w_plus: Float[np.ndarray, "l d"]) -> Float[np.ndarray, "s"]:
    with torch.no_grad():
        return pack.generator.styles(torch.from_numpy(w_plus.copy())[None].to(pack.device))[0].cpu().numpy()


def _map_latents(mappers: Input, prompt_id: str, pack: Pack, w_plus: Float[np.ndarray, "n l d"]) -> list[_Edited]:
    """The mapper's edited latents, at strength 1."""
    weights_file, description = trained_mappers(mappers)[prompt_id]
    mapper: Mapper = load_mapper(
        mappers.store.read_bytes(weights_file), description, pack.generator.config, device=pack.device
    )
    w: Tensor = torch.from_numpy(w_plus.copy()).to(pack.device)
    with torch.no_grad():
        moved = moved_latents(mapper, pack.generator, w).flatten(1).cpu().numpy()
    return [_Edited(mapper.space_name, vector=vector) for vector in moved]


def _find_pairs(optimized: Input, num_latents: int, bounds: range) -> dict[tuple[str, str], _Edited]:
    """(latent_id, prompt_id) to the edited latent; pairs stand latent by latent, so latents are a range of rows."""
    per_latent = optimized.rows // num_latents
    table = optimized.slice_table(bounds.start * per_latent, bounds.stop * per_latent)
    columns = ("latent_id", "prompt_id", "space", "error")
    rows = zip(*(table[name].to_pylist() for name in columns), vectors_of(table["vector"]), strict=True)
    return {
        (latent, prompt): _Edited(space, vector=vector, error=error) for latent, prompt, space, error, vector in rows
    }
