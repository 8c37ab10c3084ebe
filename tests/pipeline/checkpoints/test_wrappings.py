"""Known networks in other wrappings, saved by torch and imported as a user would."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoints.import_pack import ImportOptions, import_pack
from pipeline.errors import CheckpointError
from pipeline.packs.pack import Pack
from storage import Store
from tests.pipeline.checkpoints import encoder_files
from tests.pipeline.checkpoints import nvlabs_files as nv
from tests.pipeline.checkpoints import rosinality_files as ro
from tests.tolerances import IMPORTED_NETWORK

THEIRS = ro.random_generator(8)
STATE = THEIRS.state_dict()
OTHER = ro.random_generator(8, seed=1).state_dict()
AVERAGE = torch.randn(THEIRS.style_dim, generator=torch.Generator().manual_seed(9))
W_PLUS = torch.randn(1, THEIRS.num_ws, THEIRS.style_dim, generator=torch.Generator().manual_seed(0))


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def imported(folder: Path, content: Any, **options: Any) -> tuple[Pack, dict[str, Any]]:
    torch.save(content, folder / "x.pt")
    store = Store(str(folder / "pack"))
    (report,) = import_pack([str(folder / "x.pt")], store, options=ImportOptions(**options))
    pack = Pack(store, device="cpu")
    assert pack.description.imported["x.pt"].get("wrapping") == report.notes.get("wrapping")
    return pack, report.notes


WRAPPED = {
    "module": ({"g_ema": under("module.", STATE), "latent_avg": AVERAGE}, "g_ema, module."),
    "bare module": (under("module.", STATE), "module."),
    "generator": ({"generator": STATE}, "generator"),
    "generator dotted": (under("generator.", STATE), "generator."),
    "decoder": ({"state_dict": under("decoder.", STATE), "latent_avg": AVERAGE}, "state_dict, decoder."),
    "any other prefix": ({"net": under("my.own.name.", STATE)}, "net, my., own., name."),
    "state_dict": ({"state_dict": STATE, "epoch": 3}, "state_dict"),
    "params_ema": ({"params": OTHER, "params_ema": STATE}, "params_ema"),
    "g without g_ema": ({"g": STATE, "d": {"convs.0.0.weight": torch.zeros(1)}, "latent_avg": AVERAGE}, "g"),
    "average first": ({"g": under("module.", OTHER), "g_ema": under("module.", STATE)}, "g_ema, module."),
    "nested once": ({"checkpoint": {"params_ema": under("module.", STATE)}}, "checkpoint, params_ema, module."),
    "beside another network": (
        {"state_dict": {**under("generator.", STATE), **under("discriminator.", {"a.weight": torch.zeros(2)})}},
        "state_dict, generator.",
    ),
    "average among the weights": ({"params_ema": {**STATE, "latent_avg": AVERAGE}}, "params_ema"),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_generator_is_read_and_the_wrapping_noted(tmp_path: Path, kind: str):
    content, wrapping = WRAPPED[kind]
    pack, notes = imported(tmp_path, content)
    assert notes["wrapping"] == wrapping
    torch.testing.assert_close(pack.generator(W_PLUS), THEIRS(W_PLUS)[-1][1], **IMPORTED_NETWORK)
    if "latent_avg" in str(content.keys()) or kind == "average among the weights":
        torch.testing.assert_close(pack.generator.mapping.w_avg, AVERAGE)


def test_file_without_wrapping_has_no_note(tmp_path: Path):
    _, notes = imported(tmp_path, {"g_ema": STATE, "latent_avg": AVERAGE})
    assert "wrapping" not in notes


def test_wrapped_nvlabs_state_is_read(tmp_path: Path):
    theirs = nv.random_generator(8)
    pack, notes = imported(tmp_path, {"state_dict": under("module.", theirs.state_dict())})
    assert notes["wrapping"] == "state_dict, module."
    w_plus = torch.randn(1, theirs.num_ws, theirs.w_dim)
    torch.testing.assert_close(pack.generator(w_plus), theirs.synthesis(w_plus)[-1][1], **IMPORTED_NETWORK)


def test_wrapped_encoder_is_still_an_encoder(tmp_path: Path):
    state = {**under("module.encoder.", encoder_files.e4e_state(4)), **under("module.decoder.", STATE)}
    torch.save({"state_dict": state, "latent_avg": torch.zeros(4, 512)}, tmp_path / "e4e.pt")
    with pytest.raises(CheckpointError, match="is an e4e or pSp encoder, not a generator"):
        import_pack([str(tmp_path / "e4e.pt")], Store(str(tmp_path / "pack")))


def test_unknown_network_in_a_wrapping_names_the_wrapping(tmp_path: Path):
    content = {"state_dict": under("module.", {"blocks.0.weight": torch.zeros(2), "blocks.1.weight": torch.zeros(2)})}
    with pytest.raises(CheckpointError, match=r"it holds state_dict \(wrapped as state_dict, module\.") as caught:
        imported(tmp_path, content)
    assert "0.weight" in str(caught.value)
