"""Foreign checkpoints to a pack: read, check, draw, write. What was done stands in the pack's description."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

import storage
from pipeline.checkpoints.arcface import read_arcface
from pipeline.checkpoints.detect import DESCRIBED, Format, detect_format
from pipeline.checkpoints.drawing_check import PSI, SEEDS, check_generator, clamp_reach
from pipeline.checkpoints.e4e import read_e4e
from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.checkpoints.generator_state import Parity
from pipeline.checkpoints.nvlabs import read_nvlabs
from pipeline.checkpoints.official import read_fs3, read_mapper
from pipeline.checkpoints.rosinality import read_rosinality
from pipeline.checkpoints.safetensors_bytes import safetensors_bytes
from pipeline.checkpoints.wrappings import unwrap
from pipeline.directions.statistics import compute_style_moments
from pipeline.errors import CheckpointError
from pipeline.models.banded_rendering import render_banded
from pipeline.models.clip import check_activation_apart
from pipeline.models.e4e import E4e
from pipeline.models.ir_se50 import IrSe50
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.packs.pack import (
    DIRECTIONS_FILE,
    GENERATOR_FILE,
    IDENTITY_FILE,
    INVERTER_FILE,
    PACK_FILE,
    STATISTICS_FILE,
    Align,
    Pack,
    mapper_file,
    write_pack,
)
from pipeline.prompt_ids import prompt_id, slug
from pipeline.schemas import CHANNEL_DIRECTIONS, STYLE_STATISTICS
from storage import Store

PREVIEW_FILE = "preview.png"
GENERATORS: tuple[Format, ...] = ("nvlabs", "rosinality")
STATISTICS_SAMPLES = 10_000
STATISTICS_SEED = 1_000_000
HASH_BLOCK = 1 << 20


class ImportOptions(BaseModel):
    """What a user may say about an import; the defaults of a pack's description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format | None = Field(default=None, description="Format of the files; none means by their contents.")
    label: int | None = Field(default=None, ge=0, description="Class of a class-conditional generator.")
    parity: Parity | None = Field(
        default=None,
        description="What of a pickle's conv_clamp and half-precision layers is kept: by default the clamp, which is "
        "part of the network; nvlabs: both; none: neither.",
    )
    mapping_lr: float | None = Field(
        default=None, gt=0, description="lr_mlp that a rosinality generator was trained with; none means 0.01."
    )
    name: str | None = Field(default=None, description="Name of the pack; none means the folder's.")
    domain: str = Field(default="not stated", description="What the generator draws.")
    neutral: str = Field(default="a face", description="Neutral text for prompts that give none.")
    strength: float = Field(default=3.0, description="Default strength; the paper starts at 3, for cats at 7.")
    num_channels: int = Field(default=20, ge=1, description="Default channels; the paper: 20 faces, 100 cars and cats.")
    licence: str = Field(
        default="not stated; that of the imported files", description="Licence and credit of the weights."
    )
    clip_name: str = Field(default="ViT-B-32-quickgelu", description="open_clip model.")
    clip_pretrained: str = Field(default="openai", description="open_clip pretrained tag.")
    align: Align | None = Field(
        default=None,
        description="How photos are framed before they are inverted; none means as the pack says, a new one: none.",
    )


@dataclass(frozen=True)
class ImportedFile:
    """What became of one source.

    Attributes:
        source: name of the file.
        format: what it was.
        files: the pack's files made of it.
        unused: its tensors that were left out on purpose.
        notes: decisions and switches.
    """

    source: str
    format: Format
    files: tuple[str, ...]
    unused: tuple[str, ...]
    notes: dict[str, Any]


@dataclass
class _Draft:
    """A pack that is being put together."""

    store: Store
    generator: Generator | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, data: bytes) -> str:
        """Write one file now, so that its bytes need not be kept."""
        self.store.write_bytes(name, data)
        self.hashes[name] = hashlib.sha256(data).hexdigest()
        return name


def import_pack(sources: Sequence[str], store: Store, *, options: ImportOptions | None = None) -> list[ImportedFile]:
    """Convert checkpoints into a new pack, or add them to the pack that is there.

    Generators come first whatever their place in the list. ``pack.json`` is written last.

    Args:
        sources: local paths.
        store: the pack's folder.
        options: see ``ImportOptions``.
    Returns:
        one report per source, generators first.
    Raises:
        CheckpointError: if a file is refused, does not fit, or the pack would have no generator.
        PackError: if the CLIP is unknown or its weights do not fit its activation.
    """
    asked = options or ImportOptions()
    check_activation_apart(asked.clip_name, asked.clip_pretrained)
    _check_names(sources)
    draft = _opened(store, asked)
    trees = [_read(source, asked.format) for source in sources]
    trees.sort(key=lambda item: item[1] not in GENERATORS)
    _check_set([item[:2] for item in trees], draft)
    reports = []
    while trees:
        name, kind, tree, wrapping = trees.pop(0)
        held = [tree]
        del tree
        with _naming(name):
            report = _IMPORTERS[kind](held, name, draft, asked)
        reports.append(replace(report, notes={**report.notes, "wrapping": wrapping}) if wrapping else report)
    record = dict(draft.fields.get("imported", {}))
    paths = {Path(source).name: source for source in sources}
    for report in reports:
        record[report.source] = {
            "format": report.format,
            "sha256": _sha256(paths[report.source]),
            "files": list(report.files),
            "unused": list(report.unused),
            **report.notes,
        }
    write_pack(store, {**draft.fields, "imported": record}, {}, written=draft.hashes)
    return reports


def _opened(store: Store, options: ImportOptions) -> _Draft:
    """The pack that is there, or an empty one."""
    framing = options.model_dump(include={"align"}, exclude_none=True)  # said with an encoder that comes later, too
    if store.exists(PACK_FILE):
        pack = Pack(store, device="cpu")
        fields = pack.description.model_dump()
        hashes = fields.pop("files")
        return _Draft(store, pack.generator, fields | framing, hashes)
    fields = {
        "name": options.name or slug(os.path.basename(store.uri)) or "imported",
        "version": 1,
        **options.model_dump(include={"domain", "neutral", "strength", "num_channels", "licence"}),
        "clip": {"name": options.clip_name, "pretrained": options.clip_pretrained},
        **framing,
    }
    return _Draft(store, None, fields)


def _check_names(sources: Sequence[str]) -> None:
    """The pack's record of its sources goes by file name, and a mapper by its own."""
    names = [Path(source).name for source in sources]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"files of one import must have different names; got {twice} twice. Rename one.")


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Every refusal of a file names it: several are imported at a time."""
    try:
        yield
    except CheckpointError as error:
        if name in str(error):
            raise
        raise CheckpointError(f"{name}: {error}") from None


def _read(source: str, wanted: Format | None) -> tuple[str, Format, Any, str | None]:
    """Name, format, tree without its wrapping, and that wrapping."""
    name = Path(source).name
    with _naming(name):
        unwrapped = unwrap(read_foreign_file(source))
    tree = unwrapped.tree
    found = detect_format(tree)
    if found == "w_plus" or (found is None and wanted == "w_plus"):
        raise CheckpointError(
            f"{name}: holds w_plus latents, which belong to a run and not to a pack. "
            f"Read them into a run: styleclip import-latents --file {name} --run RUN --pack PACK."
        )
    if wanted is not None and found is not None and wanted != found:
        raise CheckpointError(f"{name}: must be {DESCRIBED[wanted]}; it is {DESCRIBED[found]}. Use --format {found}.")
    kind = wanted or found
    if kind is None:
        keys = ", ".join(str(key)[:40] for key in list(tree)[:5]) if isinstance(tree, dict) else type(tree).__name__
        inside = f" (wrapped as {unwrapped.seen})" if unwrapped.seen else ""
        raise CheckpointError(
            f"{name}: must be {', '.join(list(DESCRIBED.values())[:4])} or another known checkpoint; it holds "
            f"{keys or 'nothing'}{inside}. If you know what it is, say so with --format."
        )
    return name, kind, tree, unwrapped.wrapping


def _check_set(kinds: list[tuple[str, Format]], draft: _Draft) -> None:
    """One generator, before any work is done."""
    generators = [name for name, kind in kinds if kind in GENERATORS]
    if draft.generator is not None and generators:
        raise CheckpointError(
            f"a pack holds one generator; {draft.store.uri} has one already, and {generators[0]} is another. "
            f"Import it to another folder."
        )
    if len(generators) > 1:
        raise CheckpointError(f"a pack holds one generator; got {', '.join(generators)}. Import one.")
    if draft.generator is None and not generators:
        name, kind = kinds[0] if kinds else ("nothing", "nvlabs")
        raise CheckpointError(
            f"{name}: is {DESCRIBED[kind]}, not a generator, and a new pack needs one. "
            f"Give the generator's .pkl or .pt with it, or --to a pack that has one."
        )


# ------------------------------------------------------------------ one source each


# Each takes its tree out of the list it is handed, so that the mapped file is let go before anything is rendered.


def _import_generator(held: list[Any], name: str, draft: _Draft, options: ImportOptions) -> ImportedFile:
    tree = held.pop()
    kind = detect_format(tree) or options.format or "nvlabs"
    if kind == "nvlabs":
        if options.mapping_lr is not None:
            raise CheckpointError(f"{name}: --mapping-lr is for rosinality's files; a pickle records it. Leave it out.")
        found = read_nvlabs(tree, source=name, label=options.label, parity=options.parity)
    else:
        if options.label is not None or options.parity is not None:
            raise CheckpointError(f"{name}: --label and --parity are for NVlabs pickles; leave them out.")
        found = read_rosinality(tree, source=name, mapping_lr=options.mapping_lr)
    del tree
    with torch.device("meta"):
        generator = Generator(found.config)
    generator.load_state_dict(found.state, strict=True, assign=True)
    draft.generator = generator.eval().requires_grad_(False)
    preview = check_generator(draft.generator, source=name)
    clamp = {"clamp_reached": clamp_reach(draft.generator)} if found.config.conv_clamp is not None else {}
    files = (
        draft.write(GENERATOR_FILE, safetensors_bytes(found.state)),
        draft.write(PREVIEW_FILE, storage.encode_png(preview.numpy())),
    )
    draft.fields["generator"] = found.config
    return ImportedFile(name, kind, files, found.unused, {**found.notes, **clamp})


def _import_identity(held: list[Any], name: str, draft: _Draft, _: ImportOptions) -> ImportedFile:
    found = read_arcface(held.pop(), source=name)
    with torch.device("meta"):
        network = IrSe50(found.config)
    network.load_state_dict(found.state, strict=True, assign=True)
    with torch.no_grad():
        _check_finite(network.eval().embed(_sample_image(draft)), name)
    draft.fields["identity"] = found.config.model_dump()
    file = draft.write(IDENTITY_FILE, safetensors_bytes(found.state))
    return ImportedFile(name, "ir_se50", (file,), found.unused, found.notes)


def _import_inverter(held: list[Any], name: str, draft: _Draft, _: ImportOptions) -> ImportedFile:
    assert draft.generator is not None
    found = read_e4e(held.pop(), source=name)
    config = draft.generator.config
    wanted = (draft.generator.space.num_ws, config.w_dim)
    if (found.config.num_ws, 512) != wanted:
        raise CheckpointError(
            f"{name}: an inverter must give the generator's {wanted[0]} rows of {wanted[1]} ({config.resolution} px); "
            f"it gives {found.config.num_ws} rows of 512 ({2 ** (found.config.num_ws // 2 + 1)} px). "
            f"It belongs to a generator of another resolution."
        )
    with torch.device("meta"):
        network = E4e(found.config)
    network.load_state_dict(found.state, strict=True, assign=True)
    with torch.no_grad():
        _check_finite(network.eval().invert(_sample_image(draft)), name)
    draft.fields["inverter"] = found.config.model_dump()
    file = draft.write(INVERTER_FILE, safetensors_bytes(found.state))
    return ImportedFile(name, "e4e", (file,), found.unused, found.notes)


def _import_mapper(held: list[Any], name: str, draft: _Draft, _: ImportOptions) -> ImportedFile:
    assert draft.generator is not None
    found = read_mapper(held.pop(), source=name, space=draft.generator.space)
    if found.notes.get("width", draft.generator.config.w_dim) != draft.generator.config.w_dim:
        raise CheckpointError(
            f"{name}: a mapper must be as wide as the generator's w, {draft.generator.config.w_dim}; "
            f"got {found.notes['width']}. It belongs to another generator."
        )
    data = safetensors_bytes(found.state, metadata={"config": found.config.model_dump_json()})
    file = draft.write(mapper_file(prompt_id(Path(name).stem)), data)
    return ImportedFile(name, "mapper", (file,), found.unused, found.notes)


def _import_directions(held: list[Any], name: str, draft: _Draft, _: ImportOptions) -> ImportedFile:
    """fs3, and the style statistics that its use needs, which the published file does not hold."""
    assert draft.generator is not None
    space = draft.generator.space
    layers, rows = read_fs3(held.pop(), space, source=name)
    pairs = [(layer.index, c) for layer in layers for c in range(layer.num_channels)]
    directions = CHANNEL_DIRECTIONS.table(
        {
            "layer": [layer for layer, _ in pairs],
            "channel": [channel for _, channel in pairs],
            "direction": storage.vectors(rows.numpy()),
            "effect": storage.vectors(np.zeros(rows.shape, np.float32)),
            "agreement": [None] * len(pairs),
            "count": [None] * len(pairs),
            "status": ["ok" if used else "no_effect" for used in rows.any(dim=1).tolist()],
        },
        widths={"direction": rows.shape[1], "effect": rows.shape[1]},
    ).drop_columns(["effect"])  # the published table holds unit directions only
    seeds = list(range(STATISTICS_SEED, STATISTICS_SEED + STATISTICS_SAMPLES))
    moments = compute_style_moments(draft.generator, seeds, psi=PSI)
    everything = [(layer.index, c) for layer in space.layers for c in range(layer.num_channels)]
    statistics = STYLE_STATISTICS.table(
        {
            "layer": [layer for layer, _ in everything],
            "channel": [channel for _, channel in everything],
            "mean": moments.mean.float().numpy(),
            "std": moments.std().float().numpy(),
            "count": [moments.count] * len(everything),
        }
    )
    files = (
        draft.write(DIRECTIONS_FILE, storage.table_bytes(directions)),
        draft.write(STATISTICS_FILE, storage.table_bytes(statistics)),
    )
    notes = {"rows": len(pairs), "last_layer": layers[-1].index, "statistics": f"{STATISTICS_SAMPLES} seeds, psi {PSI}"}
    return ImportedFile(name, "fs3", files, (), notes)


_IMPORTERS = {
    "nvlabs": _import_generator,
    "rosinality": _import_generator,
    "e4e": _import_inverter,
    "ir_se50": _import_identity,
    "mapper": _import_mapper,
    "fs3": _import_directions,
}


def _sample_image(draft: _Draft) -> Tensor:
    assert draft.generator is not None
    with torch.no_grad():
        return render_banded(
            draft.generator, draft.generator.styles(sample_w_plus(draft.generator, SEEDS[:1], psi=PSI))
        )


def _check_finite(values: Tensor, name: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise CheckpointError(f"{name}: must give finite numbers on the generator's own image; got NaN or infinity.")


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
