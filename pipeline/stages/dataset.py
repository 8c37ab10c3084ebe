"""Rendered datasets: every latent's original and its edits, as labelled PNG images in Parquet."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storage
from pipeline.config import DatasetConfig, Precision, Rounding
from pipeline.directions.style_move import StyleMove
from pipeline.drawn_images import ImageKey, in_order, load_drawn_images
from pipeline.errors import MissingInputError, PipelineError
from pipeline.inversion.photos import load_photos, paste_edits, with_photos
from pipeline.machine.batch_size import Batches
from pipeline.machine.beside import Leaving, finish_beside
from pipeline.machine.cores import map_on_cores
from pipeline.machine.plans import synthesis_plan
from pipeline.models.stylegan2 import Generator
from pipeline.packs.pack import Pack
from pipeline.pixels import to_rgb_arrays, to_uint8
from pipeline.prompts import ORIGINAL
from pipeline.render_checks import render_faults, saturation
from pipeline.rows import EditedLatentRow, ImageRow, PromptRow, artifact_table, rows_of
from pipeline.runs.contents import digest, latent_keys
from pipeline.runs.growth import check_made_of
from pipeline.runs.progress import advance
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
from pipeline.runs.tuned_packs import by_generator, delta_paths
from pipeline.schemas import DATASET, DIRECTIONS_HASH, EDITS_FOLDER, PASTED_PHOTOS, PROMPTS, shape_of
from pipeline.style_space import StyleSpace
from storage import Store

STAGE = DATASET.name


@dataclass(frozen=True)
class Edit:
    """One latent with one prompt at one strength: a row of edited_latents.

    Attributes:
        prompt: row of the run's edits.
        strength: as in edited_latents.
        space: space of ``vector``, w_plus or styles.
        vector: the edited latent, flat; None where ``offset`` is given.
        move: of the style vector, ``strength`` times; None where ``vector`` is given.
    """

    prompt: PromptRow
    strength: float
    space: str
    vector: np.ndarray | None
    move: StyleMove | None


@dataclass(frozen=True)
class Render:
    """What became of one style vector.

    Attributes:
        image: 8-bit RGB; None where there is none.
        error: why there is none.
        saturation: share of the pixels that rounding cuts off, see ``pipeline.render_checks``; None without an image.
    """

    image: UInt8[np.ndarray, "r r 3"] | None
    error: str | None
    saturation: float | None


def compute_images(
    generator: Generator,
    styles: Float[Tensor, "n s"],
    *,
    batch_size: int,
    rounding: Rounding = "round",
    precision: Precision = "full",
) -> Iterator[Render]:
    """Render style vectors to 8-bit RGB, ``batch_size`` at a time; ``rounding`` as in ``to_uint8``.

    A render that is no image, see ``render_faults``, has its reason instead of one.
    """
    plan = synthesis_plan(generator, precision)
    for part in styles.split(batch_size):
        with torch.no_grad():
            images = generator.render(part, plan=plan)
        faults = render_faults(part, images)
        arrays = to_rgb_arrays(torch.nan_to_num(images), rounding)
        for array, fault, share in zip(arrays, faults, saturation(images), strict=True):
            yield Render(array, None, share) if fault is None else Render(None, fault, None)
        advance(len(images))


@lru_cache(maxsize=1)
def load_moves(directions: Input | None, space: StyleSpace) -> dict[str, StyleMove]:
    """prompt_id to its direction as a move in StyleSpace; empty where the run has no global directions.

    Every shard of a dataset asks for the same: they are read once.
    """
    moves: dict[str, StyleMove] = {}
    if directions is None:
        return moves
    for row in directions.table(["prompt_id", "status"], folder=PROMPTS.name).to_pylist():
        if row["status"] == "ok":  # without channels, by the switch ``guard``, it is a prompt that moves nothing
            moves[row["prompt_id"]] = StyleMove.none(space)
    for row in directions.table().to_pylist():
        move, position = moves[row["prompt_id"]], space.position(row["layer"], row["channel"])
        move.offset[position] = row["value"]
        if row.get("limit") is not None:  # directions of an older run have none
            move.limit[position] = row["limit"]
    return moves


def _checked_directions(directions: Input | None, moved: pa.Table) -> Input | None:
    """The directions that the edited latents refer to; None where they refer to none."""
    wanted = json.loads(moved.schema.metadata[DIRECTIONS_HASH.encode()])
    if wanted is None:
        return None
    if directions is None or directions.config_hash != wanted:
        raise MissingInputError(
            f"edited_latents refer to style_directions {wanted[:12]}; "
            f"{'there are none' if directions is None else f'found {directions.config_hash[:12]}'}. "
            f"Run `styleclip edit-latents` again, or name the run that has them with --inputs."
        )
    return directions


@lru_cache(maxsize=2)
def _direction_digests(directions: Input) -> dict[str, str]:
    """A digest of every prompt's direction."""
    moves: dict[str, list[Any]] = {}
    for row in directions.table().to_pylist():
        moves.setdefault(row.pop("prompt_id"), []).append(list(row.values()))
    return {prompt_id: digest(found) for prompt_id, found in moves.items()}


def dataset_contents(table: pa.Table, edited: Input, directions: Input | None) -> Contents:
    """What a shard is made of: a range of latents, and all edits with their directions."""
    moves = {} if directions is None else _direction_digests(directions)
    edits = edited.receipt(edited.present[0]).contents.get("edits", [])
    return {
        "latents": latent_keys(table),
        "edits": [[name, f"{known}-{moves[name]}" if name in moves else known] for name, known in edits],
    }


def dataset_hash(config: DatasetConfig, pack: Pack, latents: Input, edited: Input) -> str:
    """The config hash of the dataset."""
    return stage_hash(STAGE, config, pack, {"latents": latents.config_hash, "edited_latents": edited.config_hash})


def edits_per_latent(latents: Input, edited: Input) -> int:
    """Edits of every latent: prompts times strengths.

    Raises:
        MissingInputError: if there are more latents now than were edited.
        PipelineError: if the edits are of other latents.
    """
    check_made_of(edited, latents)
    if edited.rows % latents.rows:
        raise PipelineError(
            f"edited_latents must hold the same edits of each of the {latents.rows} latents; it has {edited.rows} "
            f"rows. Run `styleclip edit-latents` on these latents."
        )
    return edited.rows // latents.rows


def latents_per_shard(config: DatasetConfig, num_edits: int) -> int:
    """Whole latents, about ``images_per_shard`` images."""
    return max(1, config.images_per_shard // (1 + num_edits))


def dataset_num_shards(config: DatasetConfig, latents: Input, edited: Input) -> int:
    """Shards of a run."""
    return count_shards(latents.rows, latents_per_shard(config, edits_per_latent(latents, edited)))


def run_dataset_shard(
    config: DatasetConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    latents: Input,
    edited: Input,
    directions: Input | None,
) -> ShardReport:
    """Render and write one range of latents with all their edits.

    What a smaller run had drawn already is taken over, byte for byte. Latents and edits that failed upstream are
    counted, not drawn; a render that is no image is a failed row. A latent with a generator of its own is drawn with
    that. ``directions`` is asked for only where edited_latents refer to it.
    """
    num_edits = edits_per_latent(latents, edited)
    bounds = shard_bounds(latents.rows, latents_per_shard(config, num_edits), shard)
    table = latents.slice_table(bounds.start, bounds.stop)
    config_hash, contents = dataset_hash(config, pack, latents, edited), dataset_contents(table, edited, directions)

    def make() -> Made:
        earlier = load_drawn_images(store, contents, config_hash=config_hash)
        prompts = {row.prompt_id: row for row in rows_of(PromptRow, edited.shard_table(0, folder=EDITS_FOLDER))}
        moved = edited.slice_table(bounds.start * num_edits, bounds.stop * num_edits)
        moves = load_moves(_checked_directions(directions, moved), pack.generator.space)
        edits: dict[str, list[Edit]] = {}
        lost = 0
        for row in rows_of(EditedLatentRow, moved):
            lost += row.status == "failed"
            if row.status == "ok":
                move = moves[row.direction] if row.direction is not None else None
                edit = Edit(prompts[row.edit_id], row.strength, row.space, row.vector, move)
                edits.setdefault(row.latent_id, []).append(edit)
        finite = np.isfinite(storage.stack(table["w_plus"])).all(axis=1)
        usable = table.filter(pa.array(finite)).filter(pc.field("status") == "ok")
        rows: list[ImageRow] = list(earlier.values())
        if usable.num_rows:
            w_plus = storage.stack(usable["w_plus"]).reshape(usable.num_rows, *shape_of(table, "w_plus"))
            with torch.no_grad():
                styles = pack.generator.styles(torch.from_numpy(w_plus.copy()).to(pack.device))
            names = usable["latent_id"].to_pylist()
            for own, places in by_generator(pack, latents.store, delta_paths(usable)):
                batches = (
                    batch
                    for i in places
                    for batch in _batches(names[i], styles[i], edits.get(names[i], []), config, pack, without=earlier)
                )
                for rendered in _rendered(own.generator, config, batches, device=styles.device):
                    rows += rendered
        if earlier:
            advance(len(earlier))
            drawn = usable["latent_id"].to_pylist()
            rows = in_order(rows, {x: [(e.prompt.prompt_id, e.strength) for e in edits.get(x, ())] for x in drawn})
        photos = load_photos(latents, bounds)
        rows = with_photos(rows, photos)
        files = {part_path(STAGE, shard): storage.table_bytes(artifact_table(DATASET, rows))}
        if config.paste_back:
            pasted = paste_edits(rows, photos, latents, bounds, feather=config.feather)
            files[part_path(PASTED_PHOTOS.name, shard)] = storage.table_bytes(pasted)
        failed = sum(row.status == "failed" for row in rows)
        return Made(files, rows=len(rows), failures=table.num_rows - usable.num_rows + lost + failed)

    return run_shard(
        store,
        STAGE,
        shard,
        config_hash=config_hash,
        contents=contents,
        pack=pack,
        make=make,
        precision=config.precision,
    )


def compute_edited_style(generator: Generator, style: Float[Tensor, "s"], edit: Edit) -> Float[Tensor, "s"]:
    """The style vector to render: the source moved along a direction, or the edited latent itself."""
    if edit.move is not None:
        return edit.move.moved(style, edit.strength)
    assert edit.vector is not None
    vector = torch.from_numpy(edit.vector.copy()).to(style)
    if edit.space == "styles":
        return vector
    with torch.no_grad():
        return generator.styles(vector.view(1, generator.space.num_ws, -1))[0]


class _Batch(NamedTuple):
    """Images to render together, and the latent, prompt (None: the original) and strength of each."""

    styles: Float[Tensor, "n s"]
    labels: list[tuple[str, PromptRow | None, float]]


def _batches(
    latent_id: str,
    style: Float[Tensor, "s"],
    edits: list[Edit],
    config: DatasetConfig,
    pack: Pack,
    *,
    without: Collection[ImageKey] = (),
) -> Iterator[_Batch]:
    """The original, then every edit, without the images that are there already."""
    edits = [edit for edit in edits if (latent_id, edit.prompt.prompt_id, edit.strength) not in without]
    first = [] if (latent_id, ORIGINAL, 0.0) in without else [style]
    labels: list[tuple[str, PromptRow | None, float]] = [(latent_id, None, 0.0) for _ in first]
    labels += [(latent_id, edit.prompt, edit.strength) for edit in edits]
    if not labels:
        return
    styles = torch.stack([*first, *(compute_edited_style(pack.generator, style, edit) for edit in edits)])
    for start in range(0, len(labels), config.batch_size):
        part = slice(start, start + config.batch_size)
        yield _Batch(styles[part], labels[part])


def _merged(batches: Iterable[_Batch], size: int) -> Iterator[_Batch]:
    """The same images in batches of ``size``, whatever latent they are of; the last may be smaller."""
    styles, labels = [], []
    for batch in batches:
        styles += batch.styles.unbind()
        labels += batch.labels
        while len(labels) >= size:
            yield _Batch(torch.stack(styles[:size]), labels[:size])
            styles, labels = styles[size:], labels[size:]
    if labels:
        yield _Batch(torch.stack(styles), labels)


def _rendered(
    generator: Generator, config: DatasetConfig, batches: Iterable[_Batch], *, device: torch.device
) -> Iterator[list[ImageRow]]:
    """Batches as rows. A CPU renders and encodes a batch a core; a GPU renders full batches, and CPU threads encode."""
    if device.type == "cpu":
        return map_on_cores(partial(_render, generator, config), batches, device=device)
    return render_beside(generator, config, _merged(batches, config.batch_size))


def render_beside(generator: Generator, config: DatasetConfig, batches: Iterable[_Batch]) -> Iterator[list[ImageRow]]:
    """Batches as rows: rounded on the device, and encoded on the CPU's threads while the next ones are rendered."""
    plan, limit = synthesis_plan(generator, config.precision), Batches(config.batch_size)

    def draw(styles: Sequence[Tensor]) -> list[Callable[[], Render]]:
        together = torch.stack(list(styles))
        with torch.no_grad():
            images = generator.render(together, plan=plan)
        pixels = Leaving(to_uint8(torch.nan_to_num(images), config.uint8).permute(0, 2, 3, 1).contiguous())
        checked = zip(render_faults(together, images), saturation(images), strict=True)
        advance(len(styles))
        return [partial(_arrived, pixels, i, fault, share) for i, (fault, share) in enumerate(checked)]

    def encode(drawn: tuple[_Batch, list[Callable[[], Render]]]) -> list[ImageRow]:
        batch, renders = drawn
        return _rows(batch, (render() for render in renders))

    drawn = ((batch, limit.run(draw, batch.styles.unbind())) for batch in batches)
    threads = max(1, torch.get_num_threads() - 1)  # one drives the device; other processes have cores of their own
    return finish_beside(encode, drawn, threads=threads, ahead=2 * threads)


def _arrived(pixels: Leaving, index: int, fault: str | None, share: float) -> Render:
    return Render(pixels.array()[index], None, share) if fault is None else Render(None, fault, None)


def _render(generator: Generator, config: DatasetConfig, batch: _Batch) -> list[ImageRow]:
    """A batch as rows, rendered and encoded in this thread."""
    renders = compute_images(
        generator, batch.styles, batch_size=config.batch_size, rounding=config.uint8, precision=config.precision
    )
    return _rows(batch, renders)


def _rows(batch: _Batch, renders: Iterable[Render]) -> list[ImageRow]:
    """Encoded images with their labels."""
    rows = []
    for (latent_id, prompt, strength), render in zip(batch.labels, renders, strict=True):
        prompt_id = ORIGINAL if prompt is None else prompt.prompt_id
        image_id = image_name(latent_id, prompt_id, strength)
        png = None if render.image is None else storage.encode_png(render.image)
        rows.append(
            ImageRow(
                image_id=image_id,
                image=None if png is None else storage.image_struct(png, f"{image_id}.png"),
                latent_id=latent_id,
                prompt_id=prompt_id,
                prompt=None if prompt is None else prompt.prompt,
                target=None if prompt is None else prompt.target,
                neutral=None if prompt is None else prompt.neutral,
                method=None if prompt is None else prompt.method,
                strength=strength,
                rule=None if prompt is None else prompt.rule,
                num_channels=None if prompt is None else prompt.num_channels,
                saturation=render.saturation,
                status="ok" if render.error is None else "failed",
                error=render.error,
            )
        )
    return rows


def image_name(latent_id: str, prompt_id: str, strength: float) -> str:
    """``seed-00000042__glasses__8``; the original has no strength. Two strengths never have one name."""
    if prompt_id == ORIGINAL:
        return f"{latent_id}__{prompt_id}"
    short = f"{strength:g}"
    return f"{latent_id}__{prompt_id}__{short if float(short) == strength else repr(strength)}"
