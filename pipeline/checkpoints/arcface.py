"""``model_ir_se50.pth``: InsightFace_Pytorch's IR-SE50, the identity network of pSp, e4e and StyleCLIP."""

from typing import Any

import torch

from pipeline.checkpoints.encoder_state import ImportedNetwork, matched_state, source_tensors
from pipeline.checkpoints.tensor_ledger import TensorLedger
from pipeline.errors import CheckpointError
from pipeline.models.ir_se50 import IrSe50, IrSe50Config


def read_arcface(tree: Any, *, source: str) -> ImportedNetwork[IrSe50Config]:
    """The identity network of an unpickled ``model_ir_se50.pth``.

    Args:
        tree: from ``read_foreign_file``.
        source: name of the file, for messages.
    Raises:
        CheckpointError: if it is no such file or a tensor does not fit.
    """
    tensors = source_tensors(tree) if isinstance(tree, dict) else {}
    if "output_layer.3.weight" not in tensors or "input_layer.0.weight" not in tensors:
        keys = ", ".join(str(k) for k in list(tree)[:4]) if isinstance(tree, dict) else "another thing"
        raise CheckpointError(
            f"{source}: an IR-SE50 file must hold input_layer, body and output_layer; got {keys or 'nothing'}. "
            f"Try another --format."
        )
    ledger = TensorLedger(tensors, source=source)
    width = ledger.shape("output_layer.3.weight")[:1]
    config = IrSe50Config(width=width[0] if width and width[0] else 512)
    with torch.device("meta"):
        network = IrSe50(config)
    state = matched_state(network, ledger)
    return ImportedNetwork(config, state, ledger.close(), {"class_name": "IR-SE50"})
