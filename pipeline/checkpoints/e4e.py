"""Encoders of encoder4editing, pixel2style2pixel and ReStyle: ``{"state_dict", "opts", "latent_avg"}``.

``state_dict`` holds ``encoder.*``, which becomes the pack's inverter, and ``decoder.*``, the generator it was trained
with, which is left in the file.
"""

import re
from typing import Any

import torch
from torch import Tensor

from pipeline.checkpoints.encoder_state import ImportedNetwork, matched_state, source_tensors
from pipeline.checkpoints.foreign_tensor import ForeignTensor
from pipeline.checkpoints.pickle_globals import Stub, as_tensor
from pipeline.checkpoints.tensor_ledger import TensorLedger
from pipeline.errors import CheckpointError
from pipeline.models.e4e import E4e, E4eConfig

RESIDUAL = {
    "Encoder4Editing": True,
    "GradualStyleEncoder": False,
    "ProgressiveBackboneEncoder": True,  # ReStyle's of e4e
    "BackboneEncoder": False,  # ReStyle's of pSp
}
BACKBONES = ("ProgressiveBackboneEncoder", "BackboneEncoder")  # every head reads the coarse level
RECONSTRUCTION_CHANNELS = 6
CAR_HEIGHT = 192  # the car encoder is fed 192 x 256 px
MOST_ROWS = 40


def read_e4e(tree: Any, *, source: str) -> ImportedNetwork[E4eConfig]:
    """The encoder of an unpickled e4e or pSp file.

    Args:
        tree: from ``read_foreign_file``.
        source: name of the file, for messages.
    Raises:
        CheckpointError: if it is no such file, a variant that is not supported, or a tensor does not fit.
    """
    state_dict = tree.get("state_dict") if isinstance(tree, dict) else None
    tensors = source_tensors(state_dict, prefix="encoder.") if isinstance(state_dict, dict) else {}
    if "styles.0.convs.0.weight" not in tensors:
        keys = ", ".join(str(k) for k in list(tree)[:4]) if isinstance(tree, dict) else "another thing"
        raise CheckpointError(
            f"{source}: an e4e or pSp file must hold state_dict with encoder.styles; got {keys or 'nothing'}. "
            f"Try another --format."
        )
    options = tree.get("opts")
    options = options.state if isinstance(options, Stub) else options if isinstance(options, dict) else {}
    config = _config(tensors, options, source)
    ledger = TensorLedger(tensors, source=source)
    with torch.device("meta"):
        network = E4e(config)
    state = matched_state(network, ledger, without=frozenset(["latent_avg"]))
    unused = ledger.close()
    state["latent_avg"] = _latent_avg(as_tensor(tree.get("latent_avg")), config, options, source)
    left = [str(k) for k in state_dict if not str(k).startswith("encoder.")] if isinstance(state_dict, dict) else []
    kept = {k: v for k, v in options.items() if k in ("encoder_type", "dataset_type", "stylegan_size")}
    notes = {k: v for k, v in kept.items() if isinstance(v, str | int)}
    return ImportedNetwork(config, state, (*unused, *left), notes)


def _config(tensors: Any, options: dict[str, Any], source: str) -> E4eConfig:
    rows = {int(m[1]) for key in tensors if (m := re.match(r"styles\.(\d{1,2})\.", key))}
    num_ws = len(rows)
    if rows != set(range(num_ws)) or not 4 <= num_ws <= MOST_ROWS:
        raise CheckpointError(
            f"{source}: an encoder must have style heads 0 to at least 3 without a gap; got {sorted(rows)[:MOST_ROWS]}."
        )
    kind = options.get("encoder_type", "Encoder4Editing")
    if not isinstance(kind, str) or kind not in RESIDUAL:
        got = kind[:40] if isinstance(kind, str) else "no text"
        raise CheckpointError(f"{source}: encoder_type must be one of {', '.join(RESIDUAL)}; got {got}.")
    first = tensors["input_layer.0.weight"].shape if "input_layer.0.weight" in tensors else ()
    channels = first[1] if len(first) == 4 else 3
    if channels != 3 and not (channels == RECONSTRUCTION_CHANNELS and kind in BACKBONES):
        raise CheckpointError(
            f"{source}: an encoder must take RGB images (3 channels), or as ReStyle's ({', '.join(BACKBONES)}) an "
            f"image and its reconstruction (6); this {kind} takes {channels}, as pSp's segmentation models do."
        )
    dataset = options.get("dataset_type")
    is_car = isinstance(dataset, str) and "car" in dataset
    return E4eConfig(
        num_ws=num_ws,
        residual=RESIDUAL[kind],
        height=CAR_HEIGHT if is_car else 256,
        sees_reconstruction=channels == RECONSTRUCTION_CHANNELS,
        pyramid=kind not in BACKBONES,
    )


def _latent_avg(tensor: ForeignTensor | None, config: E4eConfig, options: dict[str, Any], source: str) -> Tensor:
    """What the codes are relative to, [num_ws, 512]; zeros for an encoder trained without."""
    if options.get("start_from_latent_avg") is False:
        return torch.zeros(config.num_ws, 512)
    if tensor is None:
        raise CheckpointError(
            f"{source}: an encoder's codes are relative to latent_avg; the file has none. Get the published file."
        )
    rows, wanted = tensor.shape, (config.num_ws, 512)
    if rows in (wanted, (1, *wanted)):
        return tensor.load().float().reshape(wanted)
    if rows in ((512,), (1, 512)):
        return tensor.load().float().reshape(1, 512).repeat(config.num_ws, 1)
    raise CheckpointError(
        f"{source}: latent_avg must be {list(wanted)} or [512]; got {list(rows)}. Likely cause: another resolution."
    )
