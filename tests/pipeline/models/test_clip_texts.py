"""Texts through CLIP without the filling after their end, against open_clip's own way over the whole context."""

import open_clip
import pytest
import torch

from pipeline.models.clip import encode_tokens

TEXT_CONFIG = {"context_length": 20, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2}
VISION_CONFIG = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1}
START, END = 48, 49


def make_tokens(lengths: list[int], context: int) -> torch.Tensor:
    """Random texts of some lengths, start and end included, filled up with zeros."""
    tokens = torch.zeros(len(lengths), context, dtype=torch.long)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(1, START, (length,))
        row[0], row[length - 1] = START, END
    return tokens


@pytest.mark.parametrize("lengths", [[3], [2, 9, 5], [20, 4]], ids=["one", "mixed", "full context"])
def test_encode_tokens_is_the_whole_contexts_embedding(lengths: list[int]):
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=16, vision_cfg=VISION_CONFIG, text_cfg=TEXT_CONFIG).eval().requires_grad_(False)
    tokens = make_tokens(lengths, 20)
    seen: list[int] = []
    model.transformer.register_forward_hook(lambda module, args, output: seen.append(args[0].shape[1]))
    found = encode_tokens(model, tokens, impl="fast")
    assert torch.equal(encode_tokens(model, tokens), found)
    torch.testing.assert_close(found, encode_tokens(model, tokens, impl="ref"), atol=1e-5, rtol=1e-5)
    assert seen == [max(lengths), max(lengths), 20]


def test_encode_tokens_leaves_other_text_towers_to_themselves():
    torch.manual_seed(0)
    text = {**TEXT_CONFIG, "pool_type": "last", "no_causal_mask": True}
    model = open_clip.CLIP(embed_dim=16, vision_cfg=VISION_CONFIG, text_cfg=text).eval().requires_grad_(False)
    tokens = make_tokens([5, 3], 20)
    assert torch.equal(encode_tokens(model, tokens), model.encode_text(tokens))
    with pytest.raises(ValueError, match="the fast path needs CLIP's causal text transformer; got CLIP"):
        encode_tokens(model, tokens, impl="fast")
