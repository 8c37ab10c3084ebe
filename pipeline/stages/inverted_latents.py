"""Latents of real images: the artifact ``latents``, as if sampled here, and beside it what became of every image.

Letters: n picture, r resolution, l row of w_plus, d w_dim.
"""

import hashlib
import posixpath
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storage
from pipeline.config import InvertedLatentsConfig
from pipeline.errors import PipelineError
from pipeline.inversion.alignment import Aligned, Aligner, load_aligner
from pipeline.inversion.encoder import check_encoder_steps, encode
from pipeline.inversion.intake import Limits, RejectedImageError, check_background, decode_photo
from pipeline.inversion.likeness import Likeness, check_rows
from pipeline.inversion.pivotal_tuning import Tuned, TuningWeights, tune
from pipeline.inversion.reading import Read, read_images
from pipeline.inversion.reconstruction import Reconstruction, reconstruct
from pipeline.inversion.refine import Refined, RefineWeights, refine
from pipeline.inversion.sheet import SheetRow, cell_size, draw_inversion_sheet, thumbnail
from pipeline.inversion.sources import ImageReference, shown_uri
from pipeline.machine.cores import map_on_cores
from pipeline.machine.plans import synthesis_plan
from pipeline.models.generator_delta import GeneratorDelta, delta_bytes, tuned_generator
from pipeline.optimization.descent import Schedule
from pipeline.packs.pack import Pack, TunedPack
from pipeline.pixels import from_rgb_arrays
from pipeline.runs.progress import advance
from pipeline.runs.shard import Input, Made, ShardReport, count_shards, part_path, run_shard, shard_bounds, stage_hash
from pipeline.runs.tuned_packs import delta_path
from pipeline.schemas import INVERTED_IMAGES, LATENTS
from storage import Store

STAGE = LATENTS.name
SHEET_FOLDER = "inversion_sheets"
SHEET_ROWS = 8  # of each shard
RAMPUP, RAMPDOWN = 0.05, 0.25  # shares of the steps, as in latent optimisation
NOT_FINITE = "the encoder's latent must be finite; it holds NaN or infinity."


def inverted_latents_hash(config: InvertedLatentsConfig, pack: Pack, listing: Input) -> str:
    """The config hash of the latents of these images."""
    return stage_hash(STAGE, config, pack, {"image_listing": listing.config_hash})


def inverted_latents_num_shards(config: InvertedLatentsConfig, listing: Input) -> int:
    """Shards of a run."""
    return count_shards(listing.rows, config.shard_size)


def check_inversion(config: InvertedLatentsConfig, pack: Pack) -> Aligner:
    """What stops a run before it costs anything; returns the aligner.

    Raises:
        PipelineError: if the pack lacks what the settings ask for, or the extra ``align`` is not installed.
        ValueError: if the background is no colour.
    """
    check_background(config.background)
    if config.start == "encoder":
        check_encoder_steps(pack.inverter, config.encoder_steps)
    elif config.encoder_steps is not None:
        raise PipelineError(
            f"`encoder_steps` has no meaning with start=mean; got {config.encoder_steps}. Leave it out."
        )
    if config.perceptual == "oracle":
        _ = pack.oracle
    return load_aligner(pack, config.align, landmarks_model=config.landmarks_model)


@dataclass(frozen=True)
class Inverted:
    """One picture's inversion.

    Attributes:
        w_plus: the latent.
        found: what is drawn from it, in the end.
        encoder_error: pixel error of the encoder's code.
        seconds: that it took, an equal share where pictures went together.
        refined: the refinement; None for none.
        tuned: the change of the generator; None where none was asked for.
        pivot_error: pixel error before that change; None likewise.
        delta: the change as it is stored; None where there is none.
    """

    w_plus: Float[np.ndarray, "l d"]
    found: Reconstruction
    encoder_error: float
    seconds: float
    refined: Refined | None = None
    tuned: Tuned | None = None
    pivot_error: float | None = None
    delta: bytes | None = None


def compute_inverted_latents(
    pack: Pack, pictures: UInt8[np.ndarray, "n r r 3"], config: InvertedLatentsConfig, aligner: Aligner
) -> list[Inverted]:
    """Invert framed pictures: encode, refine and tune where asked, and measure what is drawn against what was shown."""
    started = perf_counter()
    likeness = Likeness.of_pack(pack, aligner.canvas, config.perceptual)
    device = torch.device(pack.device)
    batches = [slice(i, i + config.batch_size) for i in range(0, len(pictures), config.batch_size)]

    def measured(w_plus: Float[Tensor, "n l d"]) -> list[Reconstruction]:
        parts = map_on_cores(lambda b: reconstruct(pack, likeness, pictures[b], w_plus[b]), batches, device=device)
        return [one for part in parts for one in part]

    codes = torch.cat(list(map_on_cores(lambda part: _encode(pack, pictures[part], config), batches, device=device)))
    check_rows(codes, pack)
    found = measured(codes)
    errors = [one.error for one in found]
    latents, refined = codes, None
    if config.refine:
        refined = _refine(pack, likeness, pictures, codes, config)
        latents = torch.stack([one.w_plus for one in refined])
        found = measured(latents)
    share = (perf_counter() - started) / len(pictures)
    arrays = latents.cpu().numpy()
    inverted = [
        Inverted(w_plus, one, error, share, how)
        for w_plus, one, error, how in zip(arrays, found, errors, refined or [None] * len(arrays), strict=True)
    ]
    if not config.pivotal_tuning:
        return inverted
    return [_tune(pack, likeness, picture, one, config) for picture, one in zip(pictures, inverted, strict=True)]


def _encode(
    pack: Pack, pictures: UInt8[np.ndarray, "n r r 3"], config: InvertedLatentsConfig
) -> Float[Tensor, "n l d"]:
    if config.start == "mean":
        return pack.generator.mapping.w_avg.repeat(len(pictures), pack.generator.space.num_ws, 1)
    steps = check_encoder_steps(pack.inverter, config.encoder_steps)
    return encode(pack.inverter, pack.generator, from_rgb_arrays(pictures).to(pack.device), steps=steps)


def _refine(
    pack: Pack,
    likeness: Likeness,
    pictures: UInt8[np.ndarray, "n r r 3"],
    codes: Float[Tensor, "n l d"],
    config: InvertedLatentsConfig,
) -> list[Refined]:
    return refine(
        pack.generator,
        likeness,
        pictures,
        codes,
        space=config.refine_space,
        weights=RefineWeights(
            config.pixel_weight,
            config.perceptual_weight,
            config.identity_weight,
            config.code_weight,
            config.spread_weight,
        ),
        schedule=Schedule(config.refine, config.learning_rate, RAMPUP, RAMPDOWN, config.tolerance, config.patience),
        target=config.target_error,
        batch_size=config.batch_size,
        plan=synthesis_plan(pack.generator),
    )


def _tune(
    pack: Pack, likeness: Likeness, picture: UInt8[np.ndarray, "r r 3"], pivot: Inverted, config: InvertedLatentsConfig
) -> Inverted:
    """An inversion with a generator of its own, measured with the change as it is stored."""
    started = perf_counter()
    w_plus = torch.from_numpy(pivot.w_plus).to(pack.device)
    tuned = tune(
        pack.generator,
        likeness,
        from_rgb_arrays(picture[None]).to(pack.device),
        w_plus,
        weights=TuningWeights(
            config.pixel_weight, config.perceptual_weight, config.identity_weight, config.locality_weight
        ),
        num_steps=config.pivotal_tuning,
        rate=config.tuning_rate,
        rank=config.tuning_rank,
        target=config.target_error,
    )
    found, data = pivot.found, None
    if tuned.delta is not None:
        arrays = tuned.delta.arrays()
        data = storage.arrays_bytes(arrays)
        own = tuned_generator(pack.generator, GeneratorDelta.of_arrays(arrays, device=pack.device))
        (found,) = reconstruct(TunedPack(pack, own), likeness, picture[None], w_plus[None])
    seconds = pivot.seconds + perf_counter() - started
    return replace(pivot, found=found, seconds=seconds, tuned=tuned, pivot_error=pivot.found.error, delta=data)


def check_delta_budget(config: InvertedLatentsConfig, pack: Pack, images: int) -> None:
    """Refuse pivotal tuning whose files would take more than ``max_delta_bytes``.

    Raises:
        PipelineError: naming both sizes, and what makes them smaller.
    """
    if not config.pivotal_tuning:
        return
    each = delta_bytes(pack.generator, config.tuning_rank)
    if each * images > config.max_delta_bytes:
        raise PipelineError(
            f"the generators' changes must take at most `max_delta_bytes` {config.max_delta_bytes:,}; {images:,} "
            f"images of {each:,} bytes each would take {each * images:,}. Lower `tuning_rank` (from 1; 0 keeps whole "
            f"weights), take fewer images, or raise the limit."
        )


@dataclass
class _Entry:
    """One listed image on its way: what is known of it so far."""

    reference: ImageReference
    sha256: str | None = None
    size: tuple[int, int] | None = None
    exif: bytes | None = None
    aligned: Aligned | None = None
    thumbnail: UInt8[np.ndarray, "h w 3"] | None = None
    inverted: Inverted | None = None
    rejected: RejectedImageError | None = None


def run_inverted_latents_shard(
    config: InvertedLatentsConfig, store: Store, pack: Pack, shard: int, *, listing: Input
) -> ShardReport:
    """Invert one range of the listing. An image that cannot be inverted becomes a failed row with its reason."""

    def make() -> Made:
        aligner = check_inversion(config, pack)
        bounds = shard_bounds(listing.rows, config.shard_size, shard)
        references = [ImageReference.of_row(row) for row in listing.slice_table(bounds.start, bounds.stop).to_pylist()]
        found = read_images(references, column=config.image_column, most_bytes=config.max_bytes)
        entries = [_take_in(reference, read, config, aligner) for reference, read in found]
        _invert(entries, pack, config, aligner)
        advance(len(entries))
        return _made(entries, pack, config, shard)

    config_hash = inverted_latents_hash(config, pack, listing)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make)


def _take_in(reference: ImageReference, read: Read, config: InvertedLatentsConfig, aligner: Aligner) -> _Entry:
    """Decode and frame one image."""
    entry = _Entry(reference)
    if isinstance(read, RejectedImageError):
        entry.rejected = read
        return entry
    entry.sha256 = hashlib.sha256(read).hexdigest() if len(read) <= config.max_bytes else None
    limits = Limits(config.max_bytes, config.max_pixels, config.min_side)
    try:
        photo = decode_photo(read, limits, background=check_background(config.background))
        entry.size = (photo.pixels.shape[1], photo.pixels.shape[0])
        entry.exif = photo.exif if config.keep_exif else None
        entry.aligned = aligner(photo.pixels)
        entry.thumbnail = thumbnail(photo.pixels, cell_size(aligner.canvas.resolution))
    except RejectedImageError as error:
        entry.rejected = error
    return entry


def _invert(entries: list[_Entry], pack: Pack, config: InvertedLatentsConfig, aligner: Aligner) -> None:
    """Fill in the inversions of the entries that were taken in."""
    framed = [entry for entry in entries if entry.aligned is not None]
    if not framed:
        return
    pictures = np.stack([entry.aligned.picture for entry in framed if entry.aligned is not None])
    for entry, inverted in zip(framed, compute_inverted_latents(pack, pictures, config, aligner), strict=True):
        if not np.isfinite(inverted.w_plus).all() or not np.isfinite(inverted.found.error):
            entry.rejected = RejectedImageError("not_finite", NOT_FINITE)
            continue
        entry.inverted = inverted
        quality = quality_of(inverted)
        if config.below_quality == "drop" and quality < config.min_quality:
            entry.rejected = RejectedImageError(
                "low_quality",
                f"the reconstruction's quality must be {config.min_quality:g} or more; it is {quality:.3f}.",
            )


def quality_of(inverted: Inverted) -> float:
    """1 less half the pixel error: 1 where the reconstruction is the picture."""
    return 1 - inverted.found.error / 2


def _made(entries: list[_Entry], pack: Pack, config: InvertedLatentsConfig, shard: int) -> Made:
    num_ws, w_dim = pack.generator.space.num_ws, pack.generator.config.w_dim
    rows = [_row(entry, config) for entry in entries]
    table = INVERTED_IMAGES.table({c.name: [row[c.name] for row in rows] for c in INVERTED_IMAGES.columns})
    files = {
        part_path(STAGE, shard): storage.table_bytes(_latents(entries, rows, (num_ws, w_dim))),
        part_path(INVERTED_IMAGES.name, shard): storage.table_bytes(table),
    }
    for entry, row in zip(entries, rows, strict=True):
        if row["delta_bytes"] is not None and entry.inverted is not None and entry.inverted.delta is not None:
            files[delta_path(row["latent_id"])] = entry.inverted.delta
    shown = [
        SheetRow(entry.reference.latent_id, entry.thumbnail, entry.aligned.picture, entry.inverted.found.drawn)
        for entry in entries
        if entry.thumbnail is not None and entry.aligned is not None and entry.inverted is not None
    ][:SHEET_ROWS]
    if shown:
        sheet = draw_inversion_sheet(shown, pack.generator.space.resolution)
        files[f"{SHEET_FOLDER}/sheet-{shard:05d}.png"] = storage.encode_png(sheet)
    return Made(files, rows=len(rows), failures=sum(row["status"] == "failed" for row in rows))


def _latents(entries: list[_Entry], rows: list[dict[str, Any]], shape: tuple[int, int]) -> pa.Table:
    failed = np.array([row["status"] == "failed" for row in rows])
    w_plus = np.zeros((len(rows), shape[0] * shape[1]), np.float32)
    for i, entry in enumerate(entries):
        if entry.inverted is not None and not failed[i]:
            w_plus[i] = entry.inverted.w_plus.reshape(-1)
    values = pa.array(w_plus.reshape(-1), pa.float32())
    n = len(rows)
    return LATENTS.table(
        {
            "latent_id": [row["latent_id"] for row in rows],
            "source": ["image"] * n,
            "seed": [None] * n,
            "source_uri": [shown_uri(entry.reference.uri) for entry in entries],
            "psi": [None] * n,
            "w_plus": pa.FixedSizeListArray.from_arrays(values, w_plus.shape[1], mask=pa.array(failed)),
            "inversion_error": [None if bad else row["inversion_error"] for bad, row in zip(failed, rows, strict=True)],
            "generator_delta": [None if row["delta_bytes"] is None else delta_path(row["latent_id"]) for row in rows],
            "status": [row["status"] for row in rows],
            "error": [row["error"] for row in rows],
        },
        widths={"w_plus": w_plus.shape[1]},
        metadata={"w_plus_shape": shape},
    )


def _row(entry: _Entry, config: InvertedLatentsConfig) -> dict[str, Any]:
    reference, aligned, inverted = entry.reference, entry.aligned, entry.inverted
    name = posixpath.basename(reference.relative_path)
    row: dict[str, Any] = dict.fromkeys(column.name for column in INVERTED_IMAGES.columns)
    row |= {
        "latent_id": reference.latent_id,
        "name": name,
        "relative_path": reference.relative_path,
        "labels": [{"name": key, "value": value} for key, value in reference.labels],
        "sha256": entry.sha256,
        "exif": entry.exif,
        "refine_steps": 0,
        "tuning_steps": 0,
        "status": "ok" if entry.rejected is None else "failed",
    }
    if entry.size is not None:
        row["width"], row["height"] = entry.size
    if aligned is not None:
        row |= {"faces": aligned.faces, "note": aligned.note, "frame": aligned.frame.numbers()}
        row["aligned"] = _image(aligned.picture, reference, "aligned")
    if inverted is not None:
        quality, found = quality_of(inverted), inverted.found
        row |= {
            "reconstruction": _image(found.drawn, reference, "reconstruction"),
            "encoder_error": inverted.encoder_error,
            "pivot_error": inverted.pivot_error,
            "inversion_error": found.error,
            "perceptual_distance": found.perceptual,
            "identity_similarity": found.identity,
            "oracle_agreement": found.agreement,
            "quality": quality,
            "is_good": quality >= config.min_quality,
            "seconds": inverted.seconds,
        }
        if inverted.refined is not None:
            row |= {"refine_steps": len(inverted.refined.curve), "refine_stop": inverted.refined.stop}
        if inverted.tuned is not None:
            row |= {"tuning_steps": len(inverted.tuned.curve), "tuning_stop": inverted.tuned.stop}
        if inverted.delta is not None and entry.rejected is None:
            row["delta_bytes"] = len(inverted.delta)
    if entry.rejected is not None:
        row |= {
            "reason": entry.rejected.reason,
            "error": f"{reference.relative_path or reference.latent_id}: {entry.rejected}",
        }
    return row


def _image(picture: UInt8[np.ndarray, "r r 3"], reference: ImageReference, kind: str) -> dict[str, bytes | str]:
    return storage.image_struct(storage.encode_png(picture), f"{reference.latent_id}__{kind}.png")
