"""Surveyed labels: what unedited faces show, read off renders that are not kept, to plan edits from."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, UInt8

import storage
from pipeline.config import ExportedDatasetConfig
from pipeline.export.seeing import Shown, open_reader
from pipeline.machine.cores import map_on_cores
from pipeline.packs.pack import Pack
from pipeline.pixels import to_rgb_arrays
from pipeline.runs.progress import advance
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import shape_of
from storage import Store

STAGE = "surveyed_labels"
RENDERED = 16  # faces at a time


def surveyed_labels_hash(config: ExportedDatasetConfig, pack: Pack, latents: Input) -> str:
    """The config hash of the survey of these latents; of the settings it depends on who reads."""
    asked = {"alternatives": config.model_dump(mode="json")["alternatives"], "judge": config.judge}
    return stage_hash(STAGE, ExportedDatasetConfig(), pack, {"latents": latents.state, **asked})


def run_surveyed_labels_shard(
    config: ExportedDatasetConfig, store: Store, pack: Pack, shard: int, *, latents: Input
) -> ShardReport:
    """Look at one shard of the latents; one that failed, or draws no image, is left out."""

    def make() -> Made:
        reader = open_reader(config, pack)
        table = latents.shard_table(shard)
        table = table.filter(pc.field("status") == "ok")
        ids = table["latent_id"].to_pylist()
        shown: list[Shown] = []
        if ids:
            w_plus = storage.stack(table["w_plus"]).reshape(len(ids), *shape_of(table, "w_plus"))
            shown = reader.read(draw_faces(pack, w_plus), batch_size=config.batch_size)
        columns = {"latent_id": pa.array(ids, pa.string())}
        for attribute in reader.attributes:
            seen = [row[attribute][0] if attribute in row else None for row in shown]
            columns[attribute] = pa.array(seen, pa.string())
        return Made({part_path(STAGE, shard): storage.table_bytes(pa.table(columns))}, rows=len(ids))

    config_hash = surveyed_labels_hash(config, pack, latents)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make)


def draw_faces(pack: Pack, w_plus: Float[np.ndarray, "n l d"]) -> UInt8[np.ndarray, "n r r 3"]:
    """Unedited faces as 8-bit RGB, on every core."""

    def draw(start: int) -> np.ndarray:
        with torch.no_grad():
            part = torch.from_numpy(w_plus[start : start + RENDERED].copy()).to(pack.device)
            images = to_rgb_arrays(torch.nan_to_num(pack.generator.render(pack.generator.styles(part))))
        advance(len(images))
        return images

    starts = range(0, len(w_plus), RENDERED)
    return np.concatenate(list(map_on_cores(draw, starts, device=torch.device(pack.device))))
