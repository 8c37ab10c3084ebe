"""The generator that a latent is drawn with: the pack's, or one with the latent's own small change in it.

Every stage that renders latents of a run asks here, and renders those of one generator together.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow as pa

import storage
from pipeline.models.generator_delta import GeneratorDelta, tuned_generator
from pipeline.packs.pack import Pack, TunedPack
from storage import Store

COLUMN = "generator_delta"  # of latents


def delta_path(latent_id: str) -> str:
    """Where a latent's change to the generator is, in its run."""
    return f"generator_deltas/{storage.sample_name(latent_id)}.safetensors"


def delta_paths(latents: pa.Table) -> list[str | None]:
    """The change that each row of latents is drawn with; None for none, as in runs that know of no such change."""
    return latents[COLUMN].to_pylist() if COLUMN in latents.column_names else [None] * latents.num_rows


def tuned_pack(pack: Pack, store: Store, path: str | None) -> Pack:
    """The pack that a latent is drawn with: itself where ``path`` is None.

    Args:
        pack: of the run.
        store: of the latents.
        path: from ``delta_paths``.
    Raises:
        MissingError: if the file is gone.
        ValueError: if it is of another generator.
    """
    if path is None:
        return pack
    delta = GeneratorDelta.of_arrays(storage.read_arrays(store, path), device=pack.device)
    return TunedPack(pack, tuned_generator(pack.generator, delta))


def by_generator(pack: Pack, store: Store, paths: Sequence[str | None]) -> Iterator[tuple[Pack, list[int]]]:
    """Places of ``paths`` that are drawn with one generator, one after the other, and the pack that has it."""
    for path, places in groupby(range(len(paths)), key=paths.__getitem__):
        yield tuned_pack(pack, store, path), list(places)
