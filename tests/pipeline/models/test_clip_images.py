"""Images through CLIP with the class token alone in the last block, against open_clip's own way."""

from typing import Any

import open_clip
import pytest
import torch

from pipeline.models.clip import encode_pixels

TEXT_CONFIG = {"context_length": 20, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
VISION_CONFIG = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 2}


def make_model(**vision: Any) -> open_clip.CLIP:
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=16, vision_cfg={**VISION_CONFIG, **vision}, text_cfg=TEXT_CONFIG)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(
    "vision",
    [{}, {"layers": 1}, {"ls_init_value": 0.5}, {"no_ln_pre": True}, {"patch_dropout": 0.5}, {"patch_size": 13}],
)
def test_encode_pixels_is_open_clips_embedding_and_gradient(vision: dict[str, Any]):
    model = make_model(**vision)
    pixels = torch.randn(3, 3, 32, 32, requires_grad=True)
    seen: list[int] = []
    model.visual.transformer.resblocks[-1].mlp.register_forward_hook(lambda m, args, out: seen.append(args[0].shape[1]))
    found, wanted = (encode_pixels(model, pixels, impl=impl) for impl in ("fast", "ref"))
    assert torch.equal(encode_pixels(model, pixels), found)
    assert seen == [1, 5, 1]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(x.square().sum(), pixels)[0] for x in (found, wanted)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "vision",
    [
        {"pool_type": "avg"},
        {"attentional_pool": True, "attn_pooler_heads": 2},
        {"block_type": "custom", "qk_norm": True},
    ],
)
def test_encode_pixels_leaves_other_image_towers_to_themselves(vision: dict[str, Any]):
    model = make_model(**vision)
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(encode_pixels(model, pixels), model.encode_image(pixels))
    with pytest.raises(ValueError, match="the fast path needs CLIP's vision transformer; got "):
        encode_pixels(model, pixels, impl="fast")


def test_encode_pixels_leaves_a_resnet_to_itself():
    model = make_model(layers=[1, 1, 1, 1], width=16, head_width=32, image_size=32)
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(encode_pixels(model, pixels), model.encode_image(pixels))
