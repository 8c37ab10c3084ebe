"""Model packs: a folder or URI with ``pack.json``, safetensors weights and, if measured, channel directions.

``pack.json`` names every file with its sha256; the pack's digest is the sha256 of ``pack.json`` and so of all of it.
A pack is loaded once per process and device.
"""

import hashlib
import json
import posixpath
import tempfile
from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load as load_safetensors
from torch import nn

from pipeline.device import resolve_device
from pipeline.errors import PackError
from pipeline.models.clip import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE, Clip, load_open_clip, load_packed_clip
from pipeline.models.e4e import E4e, E4eConfig
from pipeline.models.identity import IdentityNetwork, ResidualIdentity, ResidualIdentityConfig
from pipeline.models.inverter import Inverter, ResidualInverter, ResidualInverterConfig
from pipeline.models.ir_se50 import IrSe50, IrSe50Config
from pipeline.models.oracle import Oracle, OracleConfig
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from storage import MissingError, Store, read_table

PACK_FILE = "pack.json"
GENERATOR_FILE = "generator.safetensors"
IDENTITY_FILE = "identity.safetensors"
INVERTER_FILE = "inverter.safetensors"
ORACLE_FILE = "oracle.safetensors"
STATISTICS_FILE = "style_statistics.parquet"
DIRECTIONS_FILE = "channel_directions.parquet"
SAMPLES_FILE = "samples.safetensors"
JUDGE_FILES = {CONFIG_FILE: "judge_config.json", WEIGHTS_FILE: "judge_model.safetensors"}
JUDGE_MERGES_FILE = "judge_merges.txt.gz"
DEFAULT_PACK = "peeps"
Align = Literal["ffhq", "center-crop", "none"]
"""How photos are framed for a generator."""


def mapper_file(prompt_id: str) -> str:
    """The pack's file of an imported mapper, which serves the prompt of that name."""
    return f"mapper-{prompt_id}.safetensors"


ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ClipSpec(BaseModel):
    """Where a pack's CLIP comes from: its own files, or an open_clip name and tag."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, description="open_clip model name; none means the pack's own files.")
    pretrained: str | None = Field(None, description="open_clip pretrained tag.")
    whole_words: bool = Field(
        False, description="Every word the pack's own CLIP knows is one token; prompts with other words are warned of."
    )


class PackDescription(BaseModel):
    """Contents of ``pack.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name of the pack.")
    version: int = Field(description="Version of the pack's contents.")
    domain: str = Field(description="What the generator draws.")
    neutral: str = Field(description="Neutral text for prompts that give none.")
    strength: float = Field(description="Default strength, in standard deviations of the top channel.")
    num_channels: int = Field(ge=1, description="Default number of channels of a style direction.")
    licence: str = Field(description="Licence and credit of the weights and what they were trained on.")
    generator: GeneratorConfig = Field(description="Architecture of the generator.")
    clip: ClipSpec = Field(description="Where CLIP comes from.")
    judge: ClipSpec | None = Field(
        None,
        description="Where a second CLIP, trained apart, comes from, that judges edits; none means the pack has none.",
    )
    identity: ResidualIdentityConfig | IrSe50Config | None = Field(
        None, discriminator="kind", description="Identity network; none means the pack has none."
    )
    inverter: ResidualInverterConfig | E4eConfig | None = Field(
        None, discriminator="kind", description="Inverter; none means the pack has none."
    )
    oracle: OracleConfig | None = Field(None, description="Attribute oracle; none means the pack has none.")
    align: Align = Field(
        "none",
        description="How photos are framed before they are inverted: ffhq (around eyes and mouth, as FFHQ is), "
        "center-crop, or none (they are framed already; the whole image).",
    )
    imported: dict[str, Any] = Field(
        default_factory=dict, description="How each imported file became part of the pack: source, switches, left out."
    )
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Recommended settings by method (mapper, optimize), as fields of the method's stage settings.",
    )
    move_strengths: dict[str, float] = Field(
        default_factory=dict,
        description="Default strength by method (mapper, optimize), as a multiple of the move that was trained or "
        "found; 1 for methods that are not named.",
    )
    files: dict[str, str] = Field(description="sha256 of every file of the pack.")


class Pack:
    """A checked pack; models are built on first use.

    Attributes:
        store: the pack's folder.
        description: contents of ``pack.json``.
        digest: sha256 of ``pack.json``.
        device: torch device of the models.
    """

    def __init__(self, store: Store, *, device: str) -> None:
        self.store, self.device = store, device
        try:
            text = store.read_bytes(PACK_FILE)
        except MissingError as error:
            raise PackError(
                f"a pack must hold a {PACK_FILE}; found none at {store.uri}. "
                f"Give the name of a built-in pack ({', '.join(built_in_packs())}) or the URI of a pack folder."
            ) from error
        try:
            self.description = PackDescription.model_validate_json(text)
        except ValidationError as error:
            raise PackError(f"{store.uri}/{PACK_FILE} must describe a pack; {error}") from error
        self.digest = hashlib.sha256(text).hexdigest()

    def read(self, name: str) -> bytes:
        """Contents of a file of the pack, checked against its recorded sha256.

        Raises:
            PackError: if the pack does not list the file, or it is missing or damaged.
        """
        wanted = self.description.files.get(name)
        if wanted is None:
            raise PackError(
                f"pack {self.description.name!r} must list {name} for this; it does not. Add it to the pack."
            )
        try:
            data = self.store.read_bytes(name)
        except MissingError as error:
            raise PackError(
                f"pack {self.description.name!r} lists {name} but it is not at {self.store.uri}."
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != wanted:
            raise PackError(
                f"{self.store.uri}/{name} must have sha256 {wanted[:12]}...; got {found[:12]}... ({len(data)} bytes). "
                f"The file is damaged or a Git LFS pointer: fetch the pack again."
            )
        return data

    @cached_property
    def generator(self) -> Generator:
        """The generator, ready to render."""
        with torch.device("meta"):
            network = Generator(self.description.generator)
        return self._load_weights(network, GENERATOR_FILE)

    @cached_property
    def identity(self) -> IdentityNetwork:
        """The identity network.

        Raises:
            PackError: if the pack has none.
        """
        config = self.description.identity
        if config is None:
            raise PackError(self._lacks("an identity network", "model_ir_se50.pth"))
        with torch.device("meta"):
            network = IrSe50(config) if isinstance(config, IrSe50Config) else ResidualIdentity(config)
        return self._load_weights(network, IDENTITY_FILE)

    @cached_property
    def inverter(self) -> Inverter:
        """The inverter, from images to this generator's w_plus.

        Raises:
            PackError: if the pack has none.
        """
        config = self.description.inverter
        if config is None:
            raise PackError(self._lacks("an inverter", "e4e_ffhq_encode.pt"))
        with torch.device("meta"):
            network = E4e(config) if isinstance(config, E4eConfig) else ResidualInverter(config)
        return self._load_weights(network, INVERTER_FILE)

    @cached_property
    def oracle(self) -> Oracle:
        """The attribute oracle.

        Raises:
            PackError: if the pack has none.
        """
        config = self.description.oracle
        if config is None:
            raise PackError(
                f"this needs a pack with an oracle, which is trained for one domain; pack {self.description.name!r} "
                f"has none. Leave out what asks for it."
            )
        with torch.device("meta"):
            network = Oracle(config)
        return self._load_weights(network, ORACLE_FILE)

    def _lacks(self, model: str, example: str) -> str:
        return (
            f"this needs a pack with {model}; pack {self.description.name!r} has none. "
            f"Add one: styleclip pack import {example} --to {self.store.uri}"
        )

    def _load_weights(self, module: ModuleT, name: str) -> ModuleT:
        """Weights of a pack file, as float32 on the pack's device, gradients off; ``module`` may be a meta one."""
        # Copied out of the file's bytes: products repeat to the bit only on memory aligned as torch's own is
        found = load_safetensors(self.read(name))
        weights = {k: v.to(torch.float32 if v.is_floating_point() else v.dtype, copy=True) for k, v in found.items()}
        try:
            module.load_state_dict(weights, strict=True, assign=True)
        except RuntimeError as error:
            raise PackError(f"{name} must fit the configuration in {PACK_FILE}; {str(error)[:300]}") from error
        module.eval().requires_grad_(False)
        return module.to(device=self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @cached_property
    def clip(self) -> Clip:
        """The CLIP model."""
        return self._load_clip(self.description.clip, {name: name for name in (CONFIG_FILE, WEIGHTS_FILE)}, MERGES_FILE)

    @cached_property
    def judge(self) -> Clip:
        """The CLIP that judges edits.

        Raises:
            PackError: if the pack has none.
        """
        if self.description.judge is None:
            raise PackError(
                f"pack {self.description.name!r} must bring a CLIP that judges for this; it has none. Name another "
                f"judge, or leave it out."
            )
        return self._load_clip(self.description.judge, JUDGE_FILES, JUDGE_MERGES_FILE)

    def _load_clip(self, spec: ClipSpec, names: Mapping[str, str], merges_name: str) -> Clip:
        if spec.name is not None:
            return load_open_clip(spec.name, spec.pretrained or "", device=self.device)
        with tempfile.TemporaryDirectory() as folder:
            merges = Path(folder) / merges_name
            merges.write_bytes(self.read(merges_name))
            files = {role: self.read(name) for role, name in names.items()}
            return load_packed_clip(files, merges, device=self.device, whole_words=spec.whole_words)

    def has(self, name: str) -> bool:
        """Whether the pack lists a file."""
        return name in self.description.files

    def table(self, name: str) -> pa.Table:
        """A Parquet table of the pack, checked like any other file."""
        self.read(name)
        return read_table(self.store, name)


class TunedPack(Pack):
    """A pack with another generator of the same architecture; all else is the pack's own, loaded once for both."""

    def __init__(self, pack: Pack, generator: Generator) -> None:
        self.pack, self.store, self.device = pack, pack.store, pack.device
        self.description, self.digest = pack.description, pack.digest
        self.__dict__["generator"] = generator

    @property
    def identity(self) -> IdentityNetwork:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See ``Pack``."""
        return self.pack.identity

    @property
    def inverter(self) -> Inverter:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See ``Pack``."""
        return self.pack.inverter

    @property
    def oracle(self) -> Oracle:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See ``Pack``."""
        return self.pack.oracle

    @property
    def clip(self) -> Clip:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See ``Pack``."""
        return self.pack.clip


def built_in_packs() -> list[str]:
    """Names of the packs that ship with the project."""
    root = package_files("pipeline.packs")
    return sorted(entry.name for entry in root.iterdir() if (entry / PACK_FILE).is_file())


@lru_cache(maxsize=4)
def _load(uri: str, device: str) -> Pack:
    return Pack(Store(uri), device=device)


def load_pack(pack: str = DEFAULT_PACK, *, device: str = "auto") -> Pack:
    """A pack by the name of a built-in one or by URI; one instance per process and device.

    Args:
        pack: ``peeps`` or the URI of a folder with a ``pack.json``.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``...
    Raises:
        PackError: if there is no such pack or it is damaged.
    """
    device = resolve_device(device)
    if pack in built_in_packs():
        pack = str(Path(str(package_files("pipeline.packs"))) / pack)
    elif not posixpath.dirname(pack) and not Path(pack).exists():
        raise PackError(
            f"`pack` must be a built-in pack ({', '.join(built_in_packs()) or 'none here'}) or the URI of a pack "
            f"folder; got {pack!r}."
        )
    return _load(pack, device)


def write_pack(
    store: Store, description: dict[str, Any], files: dict[str, bytes], *, written: Mapping[str, str] | None = None
) -> None:
    """Write a pack: its files, then ``pack.json`` with their sha256.

    Args:
        store: where to; a fresh folder or an older version of the pack.
        description: fields of ``PackDescription`` without ``files``.
        files: file name to contents.
        written: sha256 of files that are there already and stay part of the pack.
    """
    hashes = dict(written or {}) | {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    checked = PackDescription.model_validate({**description, "files": dict(sorted(hashes.items()))})
    for name, data in files.items():
        store.write_bytes(name, data)
    store.write_bytes(PACK_FILE, (json.dumps(checked.model_dump(), indent=2) + "\n").encode())
