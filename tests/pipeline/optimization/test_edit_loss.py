import pytest
import torch

from kernels import unit_vectors
from pipeline.errors import PromptError
from pipeline.optimization.edit_loss import (
    EditLoss,
    EditWeights,
    direction_similarity,
    move_cosine,
    resolve_weights,
    text_target,
)
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts
from tests.tolerances import BATCH_INDEPENDENT

ROW = {"name": "hat", "target": "a face with a hat", "neutral": "a face", "method": "optimize"}


def prompt(**changes: object):
    return check_prompts([{**ROW, **changes}])[0]


def test_terms_are_the_papers_formulas_sample_by_sample(tiny_pack: Pack):
    generator = torch.Generator().manual_seed(0)
    images, sources = torch.rand(2, 3, 3, 16, 16, generator=generator).mul(2).sub(1).unbind(0)
    text, direction = unit_vectors(torch.randn(2, 3, 16, generator=generator)).unbind(0)
    loss = EditLoss(tiny_pack.clip, tiny_pack.identity)
    values = {"l2": torch.arange(3.0), "sources": loss.embed_sources(sources), "targets": text, "directions": direction}
    fast = loss.terms(images, **values)
    torch.testing.assert_close(fast, loss.terms(images, **values, impl="ref"), **BATCH_INDEPENDENT)
    embedded, before = tiny_pack.clip.encode_images(images), tiny_pack.clip.encode_images(sources)
    same = torch.cosine_similarity(tiny_pack.identity.embed(images), tiny_pack.identity.embed(sources))
    expected = [1 - torch.cosine_similarity(embedded, text), 1 - torch.cosine_similarity(embedded - before, direction)]
    torch.testing.assert_close(fast, torch.stack([*expected, torch.arange(3.0), 1 - same], dim=1), rtol=1e-4, atol=1e-4)


def test_terms_nan_in_one_image_leaves_the_gradients_of_the_others(tiny_pack: Pack):
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    loss = EditLoss(tiny_pack.clip, tiny_pack.identity)
    text = unit_vectors(torch.ones(3, 16))
    sources = loss.embed_sources(images.flip(0))

    def gradients(x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        terms = loss.terms(x, l2=torch.zeros(3), sources=sources, targets=text, directions=text)
        return torch.autograd.grad(terms.sum(), x)[0]

    broken = images.clone()
    broken[1] = torch.nan
    torch.testing.assert_close(gradients(broken)[[0, 2]], gradients(images)[[0, 2]], **BATCH_INDEPENDENT)


def test_move_cosine_has_a_gradient_where_nothing_has_moved():
    move = torch.zeros(1, 4, requires_grad=True)
    direction = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    cosine = move_cosine(move, direction)
    (gradient,) = torch.autograd.grad(cosine.sum(), move)
    assert cosine.item() == 0.0
    torch.testing.assert_close(unit_vectors(gradient), direction)


def test_resolve_weights_own_first_then_default():
    found = resolve_weights(prompt(l2_weight=0.5, identity_weight=0), EditWeights(1, 0, 0.1, 0.2), has_identity=True)
    assert found == EditWeights(1, 0, 0.5, 0)


def test_resolve_weights_all_zero_is_refused():
    zero = prompt(clip_weight=0, l2_weight=0, identity_weight=0)
    with pytest.raises(PromptError, match="prompt 'hat': `clip_weight` or `direction_weight` must be above 0"):
        resolve_weights(zero, EditWeights(), has_identity=True)


def test_resolve_weights_identity_without_network_is_refused_but_a_default_is_dropped():
    with pytest.raises(PromptError, match="`identity_weight` must be 0 or empty"):
        resolve_weights(prompt(identity_weight=0.1), EditWeights(), has_identity=False)
    assert resolve_weights(prompt(), EditWeights(identity=0.1), has_identity=False).identity == 0


def test_text_target_of_500_words_names_prompt_and_limit(tiny_pack: Pack):
    with pytest.raises(PromptError, match=r"prompt 'hat': a text must fit into CLIP's 64 tokens; got \d{3,} tokens"):
        text_target(prompt(target="a face " * 250), tiny_pack, EditWeights(), template_set="none")


def test_direction_similarity_of_equal_and_opposite_moves():
    moves = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    assert direction_similarity(moves[:2]) == (pytest.approx(1.0), pytest.approx(0.0))
    assert direction_similarity(moves)[0] == pytest.approx(-1 / 3)
    assert direction_similarity(moves[:1]) == (0.0, 0.0)
