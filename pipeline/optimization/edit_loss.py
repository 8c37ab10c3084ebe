"""The loss that latent optimisation and latent mappers share (StyleCLIP sections 4 and 5), one number per sample.

Letters: n sample, d CLIP width, e identity width, k loss term.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from kernels import Impl, check_impl, unit_vectors
from pipeline.config import ClipPreprocess, Precision
from pipeline.errors import PipelineError, PromptError
from pipeline.machine.plans import clip_for
from pipeline.models.clip import Clip
from pipeline.models.identity import IdentityNetwork
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt, templates
from pipeline.reference import BOX, raw_box_preprocess

DIRECTION_FLOOR = 1e-3  # a move in CLIP space much shorter than this counts as no move


@dataclass(frozen=True)
class EditWeights:
    """Weights of the loss terms, each at least 0.

    Attributes:
        clip: of 1 - <E(x), t>.
        direction: of 1 - cos(E(x) - E(x_s), t - t_neutral).
        l2: of the squared distance to the source latent.
        identity: of 1 - <R(x_s), R(x)>.
    """

    clip: float = 1.0
    direction: float = 0.0
    l2: float = 0.0
    identity: float = 0.0


TERMS = tuple(f"{field.name}_loss" for field in fields(EditWeights))


@dataclass(frozen=True)
class TextTarget:
    """Where a prompt wants the image to go, in CLIP space.

    Attributes:
        target: unit embedding of the target text, [d].
        direction: unit vector from the neutral to the target text, [d].
        weights: of the loss terms.
    """

    target: Float[Tensor, "d"]
    direction: Float[Tensor, "d"]
    weights: EditWeights


@dataclass(frozen=True)
class SourceEmbeddings:
    """What the losses need of the unedited images.

    Attributes:
        clip: unit embeddings [n, d].
        identity: unit embeddings [n, e]; None where no weight asks for them.
    """

    clip: Float[Tensor, "n d"]
    identity: Float[Tensor, "n e"] | None


def resolve_weights(prompt: Prompt, defaults: EditWeights, *, has_identity: bool) -> EditWeights:
    """A prompt's own weights where it gives them, else the defaults; 0 for the identity of a pack without network.

    Raises:
        PromptError: if no weight is left for the text, or the prompt weighs an identity that the pack cannot see.
    """
    if prompt.identity_weight and not has_identity:
        raise PromptError(
            f"prompt {prompt.name!r}: `identity_weight` must be 0 or empty, as the pack has no identity network; got "
            f"{prompt.identity_weight:g}. Take a pack with one."
        )
    given = (prompt.clip_weight, prompt.direction_weight, prompt.l2_weight, prompt.identity_weight)
    chosen = EditWeights(*(b if a is None else a for a, b in zip(given, astuple(defaults), strict=True)))
    if chosen.clip == 0 and chosen.direction == 0:
        raise PromptError(
            f"prompt {prompt.name!r}: `clip_weight` or `direction_weight` must be above 0, or the text has no say; "
            f"got 0 for both (l2_weight {chosen.l2:g}, identity_weight {chosen.identity:g}). Raise one of them."
        )
    return chosen if has_identity else EditWeights(chosen.clip, chosen.direction, chosen.l2, 0.0)


def text_target(prompt: Prompt, pack: Pack, defaults: EditWeights, *, template_set: str) -> TextTarget:
    """A prompt's place in CLIP space and its weights.

    Raises:
        PromptError: if a text is too long, target and neutral are one to CLIP, or the weights cannot work; the
            message names the prompt.
    """
    weights = resolve_weights(prompt, defaults, has_identity=pack.description.identity is not None)
    try:
        forms = templates(template_set)
        target = pack.clip.encode_prompt(prompt.target, forms)
        return TextTarget(target, pack.clip.text_direction(prompt.target, prompt.neutral, forms), weights)
    except PromptError as error:
        raise PromptError(f"prompt {prompt.name!r}: {error}") from error


class EditLoss:
    """The loss terms of edited images.

    Args:
        clip: the judge of the text.
        identity: the judge of who it is; None leaves that term 0.
        preprocess: what CLIP is shown; ``raw_box`` is the published code's (``pipeline/reference.py``).
    """

    def __init__(
        self, clip: Clip, identity: IdentityNetwork | None, *, preprocess: ClipPreprocess = "clip_normalised"
    ) -> None:
        self.clip, self.identity, self.preprocess = clip, identity, preprocess

    @classmethod
    def of_pack(
        cls,
        pack: Pack,
        weights: Sequence[EditWeights],
        *,
        preprocess: ClipPreprocess = "clip_normalised",
        precision: Precision = "full",
    ) -> "EditLoss":
        """With the pack's networks; the identity network only where a weight asks for it.

        ``precision`` is that of CLIP's image tower; embeddings and losses are in full precision.

        Raises:
            PipelineError: if ``raw_box`` does not fit the sizes.
        """
        sizes = (pack.generator.space.resolution, pack.clip.image_size)
        if preprocess == "raw_box" and any(size % BOX for size in sizes):
            raise PipelineError(
                f"clip_preprocess=raw_box needs images and a CLIP of a multiple of {BOX} px; pack "
                f"{pack.description.name!r} has {sizes[0]} and {sizes[1]} px. Add clip_preprocess=clip_normalised."
            )
        identity = pack.identity if any(w.identity > 0 for w in weights) else None
        return cls(clip_for(pack.clip, precision), identity, preprocess=preprocess)

    def embed_images(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n d"]:
        """CLIP's unit embeddings of images in [-1, 1]; differentiable in the images."""
        if self.preprocess == "raw_box":
            return self.clip.encode_prepared(raw_box_preprocess(images, self.clip.image_size))
        return self.clip.encode_images(images)

    def embed_sources(self, images: Float[Tensor, "n 3 r r"]) -> SourceEmbeddings:
        """Embeddings of unedited images in [-1, 1], without gradients."""
        with torch.no_grad():
            identity = None if self.identity is None else self.identity.embed(images)
            return SourceEmbeddings(self.embed_images(images), identity)

    def terms(
        self,
        images: Float[Tensor, "n 3 r r"],
        *,
        l2: Float[Tensor, "n"],
        sources: SourceEmbeddings,
        targets: Float[Tensor, "n d"],
        directions: Float[Tensor, "n d"],
        impl: Impl = "auto",
    ) -> Float[Tensor, "n k"]:
        """Unweighted terms of each sample, in the order of ``TERMS``; differentiable in ``images`` and ``l2``.

        clip = 1 - <E(x), t>; direction = 1 - ``move_cosine``; identity = 1 - <R(x_s), R(x)>. A sample's terms depend
        on nothing but the sample.

        Args:
            images: edited images, about [-1, 1].
            l2: squared distance of each latent to its source, already reduced.
            sources: embeddings of the unedited images.
            targets: unit embeddings of the target texts.
            directions: unit vectors from neutral to target texts.
            impl: the reference goes sample by sample.
        Raises:
            ValueError: if ``impl`` is none of the three.
        Source: Patashnik et al. 2021, Eq. 1-3; Gal et al. 2021 (StyleGAN-NADA), Eq. 4 for the direction.
        """
        check_impl(impl)
        if impl == "ref":
            rows = []
            for i in range(len(images)):
                one = slice(i, i + 1)
                identity = None if sources.identity is None else sources.identity[one]
                source = SourceEmbeddings(sources.clip[one], identity)
                rows.append(
                    self.terms(
                        images[one], l2=l2[one], sources=source, targets=targets[one], directions=directions[one]
                    )
                )
            return torch.cat(rows)
        embedded = self.embed_images(images)
        clip = 1 - (embedded * targets).sum(dim=1)
        direction = 1 - move_cosine(embedded - sources.clip, directions)
        same = torch.zeros_like(clip)
        if self.identity is not None and sources.identity is not None:
            same = 1 - (self.identity.embed(images) * sources.identity).sum(dim=1)
        return torch.stack([clip, direction, l2, same], dim=1)


def move_cosine(move: Float[Tensor, "n d"], direction: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """Cosine of each move with a unit direction; 0 for no move, where the gradient still points along the direction.

    ``<move, direction> / sqrt(||move||^2 + floor^2)``: the plain cosine has no gradient where an edit starts, at the
    unedited image itself.
    """
    return (move * direction).sum(dim=1) * torch.rsqrt(move.square().sum(dim=1) + DIRECTION_FLOOR**2)


def weight_rows(weights: Sequence[EditWeights], device: str | torch.device) -> Float[Tensor, "n k"]:
    """Weights as rows in the order of ``TERMS``."""
    return torch.tensor([astuple(w) for w in weights], dtype=torch.float32, device=device)


def direction_similarity(moves: Float[Tensor, "n d"]) -> tuple[float, float]:
    """Mean and standard deviation of the cosine between the moves of different latents (StyleCLIP Table 2).

    1 means that every latent is moved the same way. NaN-free: with fewer than two moves there is no pair, and both
    are 0.
    """
    if len(moves) < 2:
        return 0.0, 0.0
    unit = unit_vectors(moves)
    cosines = (unit @ unit.T)[~torch.eye(len(moves), dtype=torch.bool, device=moves.device)]
    return float(cosines.mean()), float(cosines.std(unbiased=False))
