"""CLIP through open_clip: any built-in model with a pretrained tag, or a pack's own configuration and weights.

open_clip is imported where it is used: with what it imports it takes 230 MB, which the
import of a generator can do without.

Letters: n image or text, d embedding width.
"""

import copy
import io
import json
import logging
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from kernels import Impl, check_impl, resize_normalize, unit_vectors
from pipeline.errors import PackError, PromptError
from pipeline.models.gradient_scale import GradientScale

log = logging.getLogger(__name__)

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
MERGES_FILE = "merges.txt.gz"
# what a tokenizer never joins: contractions, words, single digits, runs of symbols
_STROKE = re.compile(r"\s*[/\\]+\s*")  # between wishes; a vocabulary of whole words has no sign for it
_PIECE = re.compile(
    r"(?P<known>'(?:s|t|re|ve|m|ll|d)\b|[.,;:!?'\"()-]+|\ba\b)|[^\W\d_]+|\d|(?:[^\w\s]|_)+", re.IGNORECASE
)
NUM_BYTES = 512  # the first tokens of a byte-pair vocabulary: every byte, within a word and at its end
FULL_VOCABULARY = 49_408  # OpenAI's; models of it have seen symbols, numbers and much else
KEPT_PROMPTS = 256
_USE_AUTO = 'Use `impl="auto"`.'
REFUSED = 3  # exit code of ``_CHECK``
_CHECK = f"""
import sys
sys.path[:] = sys.argv[3:]
from pipeline.errors import PackError
from pipeline.models.clip import check_activation
try:
    check_activation(sys.argv[1], sys.argv[2])
except PackError as error:
    print(error)
    sys.exit({REFUSED})
"""
DOWNLOAD_FAILED = "Failed to download weights"  # how open_clip's error begins
RIGHT_PAIRS = {("ViT-B-32-quickgelu", "openai")}  # known to pass ``check_activation``


class Clip:
    """Image and text embeddings of one CLIP model, always unit length.

    Args:
        model: an open_clip model.
        tokenize: texts to token ids [n, context_length].
        image_size: input size in pixels.
        mean: per channel, on [0, 1] RGB.
        std: per channel, on [0, 1] RGB.
        whole_words: every word of the training texts is one token, so a word in pieces is one it never saw.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenize: Any,
        *,
        image_size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        whole_words: bool = False,
    ) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenize = tokenize
        self.image_size = image_size
        self.mean, self.std = mean, std
        self.whole_words = whole_words
        self._encoded: OrderedDict[tuple[str, tuple[str, ...]], Tensor] = OrderedDict()
        self._in_half: dict[torch.dtype, Clip] = {}
        self._half: tuple[torch.dtype, Any] | None = None  # precision and model of the images

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def encode_images(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Unit embeddings of images in [-1, 1]; differentiable in the images."""
        x = resize_normalize(images.to(self.device), self.image_size, mean=self.mean, std=self.std)
        return self.encode_prepared(x)

    def encode_prepared(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        """Unit embeddings of images that are the model's input as they are; differentiable in the images."""
        images = images.to(self.device)
        if self._half is None:
            return unit_vectors(encode_pixels(self.model, images))
        (dtype, model), scale = self._half, GradientScale()
        found = encode_pixels(model, scale.at_start(images).to(dtype))
        return unit_vectors(scale.at_end(found.to(images.dtype)))  # scaled before it is rounded

    def in_half(self, dtype: torch.dtype = torch.float16) -> "Clip":
        """The same model with its image tower in half precision; made once.

        Pixels are prepared, embeddings made unit and gradients handed on in full precision; texts are as ever. Other
        image towers than a plain vision transformer stay in full precision.
        """
        if not _reads_class_token(getattr(self.model, "visual", None)):
            return self
        if dtype not in self._in_half:
            half = copy.copy(self)
            visual = copy.deepcopy(self.model.visual).to(dtype)
            half._half = (dtype, SimpleNamespace(visual=visual))
            self._in_half[dtype] = half
        return self._in_half[dtype]

    def image_tokens(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n t c"]]:
        """What the middle blocks of a vision transformer make of images in [-1, 1]; differentiable in the images.

        Of other image encoders the embedding alone, as one token.
        """
        visual: Any = getattr(self.model, "visual", None)
        if not _reads_class_token(visual):
            return [self.encode_images(images)[:, None]]
        x = resize_normalize(images.to(self.device), self.image_size, mean=self.mean, std=self.std)
        x = _embed_patches(visual, x)
        found = []
        for block in visual.transformer.resblocks[: max(1, 2 * len(visual.transformer.resblocks) // 3)]:
            x = block(x)
            found.append(x)
        return found

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit embeddings of texts, each as it stands.

        Raises:
            PromptError: if a text is longer than the model's context.
        """
        texts = [self._read(text) for text in texts]
        tokens = self.tokenize(texts)
        limit = int(tokens.shape[1])
        for text in texts:
            length = len(self.tokenize.encode(text)) + 2 if hasattr(self.tokenize, "encode") else 0
            if length > limit:
                raise PromptError(
                    f"a text must fit into CLIP's {limit} tokens; got {length} tokens in {text[:60]!r}... Shorten it."
                )
        with torch.no_grad():
            return unit_vectors(encode_tokens(self.model, tokens.to(self.device)))

    def unknown_words(self, text: str) -> list[str]:
        """Words, numbers and symbols of a text that the model never saw, in order.

        With ``whole_words`` those that are not one token of more than a byte. A small vocabulary of pieces spells any
        English word; there it is numbers, symbols and other scripts of which it has the bare bytes only. Models of
        OpenAI's vocabulary count as knowing all.
        """
        size = getattr(self.tokenize, "vocab_size", None)
        if not self.whole_words and (not isinstance(size, int) or size >= FULL_VOCABULARY):
            return []
        pieces = [found[0] for found in _PIECE.finditer(self._read(text)) if found["known"] is None]
        return [piece for piece in pieces if self._is_unknown(piece)]

    def _read(self, text: str) -> str:
        """A text as the model was taught to read: with ``whole_words``, commas for strokes; else as it stands."""
        return _STROKE.sub(", ", text) if self.whole_words else text

    def _is_unknown(self, piece: str) -> bool:
        tokens = self.tokenize.encode(piece)
        bare = all(token < NUM_BYTES for token in tokens)
        if self.whole_words:
            return bare or len(tokens) > 1
        return bare and not (piece.isascii() and piece.isalpha())

    def known_words(self) -> list[str]:
        """Every word that is one token, sorted; empty for models that spell words in pieces."""
        if not self.whole_words:
            return []
        ends = (token.removesuffix("</w>") for token in self.tokenize.encoder if token.endswith("</w>"))
        return sorted({word for word in ends if len(word) > 1 and word.isalpha()})

    def encode_prompt(self, text: str, templates: Sequence[str]) -> Float[Tensor, "d"]:
        """Unit embedding of a text averaged over templates: normalise each, mean, normalise (CLIP zero-shot).

        The last few are kept: the prompts of a list mostly share their neutral text.
        """
        key = (text, tuple(templates))
        found = self._encoded.get(key)
        if found is None:
            found = unit_vectors(self.encode_texts([template.format(text) for template in templates]).mean(dim=0))
            self._encoded[key] = found
            while len(self._encoded) > KEPT_PROMPTS:
                self._encoded.popitem(last=False)
        return found

    def text_direction(self, target: str, neutral: str, templates: Sequence[str]) -> Float[Tensor, "d"]:
        """Unit vector from the neutral to the target text (StyleCLIP section 6).

        Raises:
            PromptError: if both texts have the same embedding.
        """
        direction = unit_vectors(self.encode_prompt(target, templates) - self.encode_prompt(neutral, templates))
        if not bool(direction.any()):
            raise PromptError(
                f"target and neutral must differ in CLIP's eyes; {target!r} and {neutral!r} have one embedding. "
                f"Change one of the texts."
            )
        return direction


def encode_tokens(model: Any, tokens: Int[Tensor, "n t"], *, impl: Impl = "auto") -> Float[Tensor, "n d"]:
    """Text embeddings, not normalised, at the cost of the longest text instead of the whole context.

    A causal transformer never looks ahead and the embedding is read at the end of the text: what fills up the context
    after it has no say. 79 templates of a short prompt need a third to a fifth of the time.

    Args:
        model: an open_clip model; others than CLIP's causal text transformer run as they are.
        tokens: filled up to the context length; the end of a text is its largest id.
        impl: the reference is open_clip's own, over the whole context; ``"auto"`` takes it for other text towers.
    Raises:
        ValueError: if ``impl`` is none of the three, or ``"fast"`` for another text tower.
    """
    check_impl(impl)
    fits = getattr(model, "text_pool_type", "") == "argmax" and isinstance(model.text_projection, Tensor)
    mask = model.attn_mask if fits else None
    if impl == "fast" and mask is None:
        raise ValueError(f"the fast path needs CLIP's causal text transformer; got {type(model).__name__}. {_USE_AUTO}")
    if impl == "ref" or mask is None:
        return model.encode_text(tokens)
    ends = tokens.argmax(dim=1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=mask[:length, :length])
    return model.ln_final(x)[torch.arange(len(x), device=x.device), ends] @ model.text_projection


def encode_pixels(model: Any, pixels: Float[Tensor, "n 3 s s"], *, impl: Impl = "auto") -> Float[Tensor, "n d"]:
    """Image embeddings, not normalised, without what no one reads: the last block's patches.

    A vision transformer's embedding is read at the class token. Above the last attention no token sees another, so
    there the class token goes on alone: of a block's products it needs the keys and values, a sixth.

    Args:
        model: an open_clip model; others than CLIP's vision transformer run as they are.
        pixels: prepared for the model.
        impl: the reference is open_clip's own; ``"auto"`` takes it for other image towers.
    Raises:
        ValueError: if ``impl`` is none of the three, or ``"fast"`` for another image tower.
    """
    check_impl(impl)
    visual: Any = getattr(model, "visual", None)
    fits = _reads_class_token(visual)
    if impl == "fast" and not fits:
        raise ValueError(f"the fast path needs CLIP's vision transformer; got {type(visual).__name__}. {_USE_AUTO}")
    if impl == "ref" or not fits:
        return model.encode_image(pixels)
    *blocks, last = visual.transformer.resblocks
    x = _embed_patches(visual, pixels)
    for block in blocks:
        x = block(x)
    seen = last.ln_1(x)
    token = x[:, :1] + last.ls_1(last.attention(seen[:, :1], seen, seen))
    token = token + last.ls_2(last.mlp(last.ln_2(token)))
    return visual.ln_post(token[:, 0]) @ visual.proj


def _embed_patches(visual: Any, pixels: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n t w"]:
    """Class token and patches, as a vision transformer's blocks take them.

    The convolution by whole patches is one matrix product of the patches: torch's own is ten times as slow backward.
    """
    height, width = visual.conv1.kernel_size
    rows, columns = pixels.shape[2] // height, pixels.shape[3] // width
    patches = pixels[:, :, : rows * height, : columns * width]
    patches = patches.unflatten(3, (columns, width)).unflatten(2, (rows, height))  # [n 3 rows height columns width]
    x = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2) @ visual.conv1.weight.flatten(1).T
    token = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([token, x], dim=1) + visual.positional_embedding.to(x.dtype)
    return visual.ln_pre(visual.patch_dropout(x))


def _reads_class_token(visual: Any) -> bool:
    """Whether an image tower is a plain vision transformer that ends with its class token."""
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    if type(visual) is not VisionTransformer:
        return False
    transformer = visual.transformer
    pooled_otherwise = visual.attn_pool is not None or visual.pool_type != "tok" or visual.output_tokens
    run_otherwise = not transformer.batch_first or transformer.grad_checkpointing or visual.proj is None
    plain = type(transformer.resblocks[-1]) is ResidualAttentionBlock
    return plain and not pooled_otherwise and not run_otherwise


def load_packed_clip(files: dict[str, bytes], merges: Path, *, device: str, whole_words: bool = False) -> Clip:
    """CLIP from a pack: open_clip's configuration, safetensors weights (fp16 is widened), own byte-pair merges.

    Args:
        files: contents of ``CONFIG_FILE`` and ``WEIGHTS_FILE``.
        merges: local path of the gzipped merges (open_clip's tokenizer reads a path).
        device: torch device.
        whole_words: see ``Clip``.
    Raises:
        PackError: if configuration and weights do not fit each other.
    """
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    config = json.loads(io.BytesIO(files[CONFIG_FILE]).read())
    model = open_clip.CLIP(**config["model_cfg"])
    weights = {k: v.float() for k, v in load_safetensors(files[WEIGHTS_FILE]).items()}
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise PackError(f"the pack's CLIP weights must fit its configuration; {str(error)[:300]}") from error
    context = config["model_cfg"]["text_cfg"]["context_length"]
    preprocess = config["preprocess_cfg"]
    return Clip(
        model.to(device),
        SimpleTokenizer(bpe_path=str(merges), context_length=context),
        image_size=config["model_cfg"]["vision_cfg"]["image_size"],
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        whole_words=whole_words,
    )


def check_activation(name: str, pretrained: str) -> None:
    """Refuse a model whose activation is not the one its weights were trained with.

    open_clip builds ``ViT-B-32`` with GELU and only warns when the ``openai`` weights, trained with QuickGELU, are
    put into it; the embeddings are then wrong.

    Raises:
        PackError: if the model is unknown, has no such tag, or its activation differs from the tag's.
    """
    if (name, pretrained) in RIGHT_PAIRS:
        return
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    config = open_clip.get_model_config(name)
    if config is None:
        raise PackError(f"open_clip must know the model; got {name!r}. See open_clip.list_models().")
    tag = get_pretrained_cfg(name, pretrained)
    if not tag:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise PackError(f"open_clip must know the weights; {name!r} has no tag {pretrained!r}. Known tags: {known}.")
    wanted, built = bool(tag.get("quick_gelu", False)), bool(config.get("quick_gelu", False))
    if wanted != built:
        other = f"{name}-quickgelu" if wanted else name.removesuffix("-quickgelu")
        raise PackError(
            f"model and weights must use one activation; {pretrained!r} was trained with "
            f"{'QuickGELU' if wanted else 'GELU'}, {name!r} is built with "
            f"{'QuickGELU' if built else 'GELU'}. Use {other!r}."
        )


def check_activation_apart(name: str, pretrained: str) -> None:
    """``check_activation`` in a process of its own: open_clip's memory is free again before anything large is read.

    Where open_clip is loaded already, or the pair is known to be right, there is nothing to save and no process.

    Raises:
        PackError: see ``check_activation``.
    """
    if (name, pretrained) in RIGHT_PAIRS or "open_clip" in sys.modules or not sys.executable:
        check_activation(name, pretrained)
        return
    command = [sys.executable, "-W", "ignore", "-c", _CHECK, name, pretrained, *sys.path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == REFUSED:
        raise PackError(result.stdout.strip())
    if result.returncode != 0:
        raise PackError(
            f"open_clip must be able to look up {name!r}, {pretrained!r}; it ended with "
            f"{(result.stderr.strip().splitlines() or ['no message'])[-1][:200]}. Check the environment."
        )


def load_open_clip(name: str, pretrained: str, *, device: str) -> Clip:
    """A built-in open_clip model with pretrained weights, which open_clip downloads or finds in its cache.

    Raises:
        PackError: see ``check_activation``; or if the weights are neither in the cache nor to be fetched.
    """
    import open_clip

    check_activation(name, pretrained)
    try:
        model = open_clip.create_model(name, pretrained=pretrained, device=device)
    except RuntimeError as error:
        if not str(error).startswith(DOWNLOAD_FAILED):
            raise
        reason = " ".join(str(error.__context__ or error).split())[:160]
        raise PackError(
            f"the weights of CLIP {name!r}, {pretrained!r} must be in Hugging Face's cache or fetched from there; got "
            f"{reason!r}. Run it once with a connection, or copy the cache of a machine that did ($HF_HOME, by "
            f"default ~/.cache/huggingface) and set HF_HUB_OFFLINE=1."
        ) from error
    preprocess = open_clip.get_model_preprocess_cfg(model)
    size = preprocess["size"]
    return Clip(
        model,
        open_clip.get_tokenizer(name),
        image_size=int(size[0] if isinstance(size, tuple) else size),
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
    )
