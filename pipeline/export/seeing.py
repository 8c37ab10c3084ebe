"""Who tells what an image shows: the pack's oracle, and for attributes that a user names, a CLIP that picks zero-shot.

Letters: n image, r resolution, k category, d CLIP width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipeline.config import ExportedDatasetConfig
from pipeline.errors import PipelineError
from pipeline.export.questions import NOTHING
from pipeline.models.clip import Clip
from pipeline.packs.pack import Pack
from pipeline.prompts import templates
from pipeline.scoring.judge import load_judge
from pipeline.scoring.judgement import label_probabilities, read_labels
from pipeline.scoring.networks import compute_embeddings, oracle_probabilities
from pipeline.wants import HIDDEN

LOGIT_SCALE = 100.0  # CLIP's own, by which cosines become logits (Radford et al. 2021, section 2.5)
TEMPLATES = "imagenet_79"
Shown = Mapping[str, tuple[str, float | None]]  # attribute -> category and its probability, None where not recorded


@dataclass(frozen=True)
class Reader:
    """Reads attributes off images.

    Attributes:
        attributes: that it can tell, with their categories in order; empty where there is neither oracle nor question.
        choices: attributes that a CLIP is asked for, with the text of every category.
        judge: name of the CLIP that is asked; None: the pack's own.
    """

    pack: Pack
    attributes: Mapping[str, tuple[str, ...]]
    choices: Mapping[str, Mapping[str, str]]
    judge: str | None

    def read(self, images: UInt8[np.ndarray, "n r r 3"], *, batch_size: int) -> list[Shown]:
        """What every image shows; an attribute that the image cannot show is left out."""
        shown: list[dict[str, tuple[str, float | None]]] = [{} for _ in images]
        if len(images) == 0:
            return list(shown)
        oracle = self.pack.description.oracle
        probabilities = oracle_probabilities(self.pack, images, batch_size=batch_size)
        if oracle is not None and probabilities is not None:
            labels = read_labels(oracle, probabilities)
            largest = label_probabilities(oracle, probabilities, labels)
            for i, (attribute, categories) in enumerate(oracle.attributes.items()):
                for row, k, p in zip(shown, labels[:, i].tolist(), largest[:, i].tolist(), strict=True):
                    if k != HIDDEN:
                        row[attribute] = (categories[k], p)
        if self.choices:
            clip = self.pack.clip if self.judge is None else load_judge(self.judge, device=self.pack.device)
            embeddings = compute_embeddings(clip.encode_images, images, batch_size=batch_size, device=self.pack.device)
            for attribute, texts in self.choices.items():
                chances = choice_probabilities(embeddings, _text_embeddings(clip, tuple(texts.values())))
                best, number = chances.max(dim=1)
                for row, k, p in zip(shown, number.tolist(), best.tolist(), strict=True):
                    row[attribute] = (self.attributes[attribute][k], p)
        return list(shown)


def open_reader(config: ExportedDatasetConfig, pack: Pack) -> Reader:
    """The reader of an export: the pack's oracle, and the settings' ``alternatives``, which win over it.

    Raises:
        PipelineError: if an attribute has fewer than two alternatives.
    """
    oracle = pack.description.oracle
    known = {} if oracle is None else dict(oracle.attributes)
    choices = {
        attribute: choice_texts(attribute, given, neutral=pack.description.neutral)
        for attribute, given in config.alternatives.items()
    }
    return Reader(pack, known | {name: tuple(texts) for name, texts in choices.items()}, choices, config.judge)


def choice_texts(attribute: str, given: Sequence[str] | Mapping[str, str], *, neutral: str) -> dict[str, str]:
    """The text of every alternative: as given, else ``a face with CATEGORY``, and the neutral text for ``none``.

    Raises:
        PipelineError: if there are fewer than two.
    """
    texts = dict(given) if isinstance(given, Mapping) else {c: _text_of(c, neutral) for c in given}
    if len(texts) < 2:
        raise PipelineError(
            f"`alternatives` of {attribute!r} must be two or more to choose among; got {list(texts)}. Add what an "
            f"image shows otherwise, such as {NOTHING!r}."
        )
    return texts


def choice_probabilities(images: Float[Tensor, "n d"], texts: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
    """Zero-shot probabilities of the alternatives: the softmax of 100 times the cosines (Radford et al. 2021, 3.1)."""
    return (LOGIT_SCALE * images @ texts.T).softmax(dim=1)


def _text_of(category: str, neutral: str) -> str:
    return neutral if category == NOTHING else f"{neutral} with {category.replace('_', ' ')}"


@lru_cache(maxsize=256)
def _text_embeddings(clip: Clip, texts: tuple[str, ...]) -> Float[Tensor, "k d"]:
    """Every shard asks for the same."""
    return torch.stack([clip.encode_prompt(text, templates(TEMPLATES)).cpu() for text in texts])
