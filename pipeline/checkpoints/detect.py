"""Which kind of checkpoint an object tree is."""

from typing import Any, Literal

from pipeline.checkpoints.pickle_globals import Stub, as_tensor

Format = Literal["nvlabs", "rosinality", "e4e", "ir_se50", "mapper", "fs3", "w_plus"]

DESCRIBED: dict[Format, str] = {
    "nvlabs": "an NVlabs StyleGAN2 pickle",
    "rosinality": "a rosinality StyleGAN2 generator",
    "e4e": "an e4e or pSp encoder",
    "ir_se50": "an IR-SE50 identity network",
    "mapper": "a StyleCLIP latent mapper",
    "fs3": "a table of channel directions (fs3)",
    "w_plus": "an array of w_plus latents",
}


def detect_format(tree: Any) -> Format | None:
    """The format of an unpickled checkpoint by what it holds, whatever its name; None for an unknown one."""
    tensor = as_tensor(tree)
    if tensor is not None:
        return {2: "fs3", 3: "w_plus"}.get(len(tensor.shape))  # type: ignore[return-value]
    if isinstance(tree, tuple | list):
        return "nvlabs" if any(isinstance(x, Stub) and x.kind == "Network" for x in tree) else None
    if isinstance(tree, Stub):
        return "nvlabs" if "_modules" in tree.state else None
    if not isinstance(tree, dict):
        return None
    if isinstance(tree.get("G_ema"), Stub) or _has(tree.get("G_ema"), "synthesis.b4.const"):
        return "nvlabs"
    if _has(tree.get("g_ema"), "conv1.conv.weight") or _has(tree, "conv1.conv.weight"):
        return "rosinality"
    if _has(tree.get("state_dict"), "mapper."):
        return "mapper"
    if _has(tree.get("state_dict"), "encoder.styles."):
        return "e4e"
    if _has(tree, "output_layer.3.weight") and _has(tree, "input_layer.0.weight"):
        return "ir_se50"
    return None


def _has(entries: Any, start: str) -> bool:
    return isinstance(entries, dict) and any(isinstance(key, str) and key.startswith(start) for key in entries)
