"""Reachability: whether a pack can draw what a prompt asks for, before anything costly is spent on it.

Two signs, neither of which needs an edit. The **pull**: how far the nearest of a few hundred unedited samples stand
from the samples' mean, along the move from the neutral text to the target, or the farthest, if they stand off more: of
"not bald" nearly every sample is an example, and the bald ones are what shows that the text is about something. Images
can only be pulled apart by a text that is about something they differ in. And the **known share** of the words and
signs by which the target differs from the neutral: a CLIP that never saw "car" takes "a red sports car" for "red", and
samples in red shirts come near it.

Their product is the score; a prompt is reachable where it exceeds nearly all of a list of unrelated prompts.

Letters: n sample, d CLIP width.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor

from pipeline.errors import PromptError
from pipeline.models.clip import Clip
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt, templates
from pipeline.scoring.samples import Samples, draw_samples

NEAREST = 8  # samples that stand for the nearest ones
NULL_SHARE = 0.95  # of the unrelated prompts that a reachable one scores above
SAME = 1e-3  # length of the text move below which target and neutral are one to CLIP
_WORD = re.compile(r"[^\W\d_]+")
# Words that say how the others hang together, or that an edit is a portrait at all; they name nothing to draw.
FUNCTION_WORDS = frozenset((
    "a", "an", "the", "this", "that", "these", "those", "it", "its", "his", "her", "their", "my", "your",
    "some", "any", "one", "of", "with", "without", "and", "or", "but", "not", "no", "non", "in", "on", "at",
    "by", "to", "for", "from", "as", "into", "over", "under", "is", "are", "was", "be", "been", "being", "has",
    "have", "having", "had", "who", "which", "whose", "wearing", "wears", "wear", "worn", "looks", "look",
    "looking", "like", "very", "really", "quite", "more", "most", "front", "behind", "there", "here",
))  # fmt: skip
# Things apart from most domains, half of them with words that many domains know: those are the prompts to be fooled by.
UNRELATED = (
    "a big bowl of soup", "an old suspension bridge", "a map of a river", "a brown wooden table", "a galaxy of stars",
    "a white cup of tea", "a stack of old books", "a blue mountain lake", "a circuit board", "a brown loaf of bread",
    "a red violin", "a long sailing ship", "a tennis racket", "a tall lighthouse", "a yellow field of wheat",
    "a dark staircase", "a black steam locomotive", "a bag of coins", "a big waterfall", "a skyscraper at night",
    "a bunch of green bananas", "a wind turbine", "a chess board", "a pink coral reef", "a hammer and nails",
    "a printed newspaper", "a bald desert dune", "a gray satellite dish", "a happy birthday cake",
    "an angry thunderstorm", "an empty parking lot", "a small spiral notebook",
)  # fmt: skip


@dataclass(frozen=True)
class Reachability:
    """What is known of a prompt before it is tried.

    Attributes:
        name: of the prompt.
        reachable: whether the score exceeds the threshold.
        score: pull times known share, at least 0; larger is more reachable.
        threshold: the score that 95 % of unrelated prompts stay below.
        pull: how far the nearest samples, or the farthest, stand from all, as a difference of cosines.
        known: share of the words and signs the prompt adds that CLIP knows; 1 for a CLIP that spells words in pieces.
        nearest: share of the samples that are closer to the target than to the neutral.
        unknown_words: words CLIP never saw.
        suggestions: what to change, one sentence each.
        seeds: seeds of the nearest samples, nearest first.
    """

    name: str
    reachable: bool
    score: float
    threshold: float
    pull: float
    known: float
    nearest: float
    unknown_words: tuple[str, ...]
    suggestions: tuple[str, ...]
    seeds: tuple[int, ...]


def words_of(text: str) -> list[str]:
    """Lower-case words of a text, in order."""
    return [word.lower() for word in _WORD.findall(text)]


def lost_words(text: str, clip: Clip) -> list[str]:
    """Words of a text that name something and that CLIP never saw, in order, each once."""
    return [word for word in dict.fromkeys(clip.unknown_words(text)) if word.lower() not in FUNCTION_WORDS]


def known_share(target: str, neutral: str, unknown: Sequence[str]) -> float:
    """Share of what the target adds to the neutral, function words aside, that is known; 1 if it adds nothing.

    Words count, and of numbers, symbols and emoji those that are unknown. A text that drops the neutral's subject and
    has unknown words is about something else ("a bald eagle", neutral "a face"): there the share counts twice.
    """
    subject = {*words_of(neutral)} - FUNCTION_WORDS
    added = [word for word in words_of(target) if word not in FUNCTION_WORDS and word not in subject]
    lost = {word.lower() for word in unknown}
    added += [sign for sign in lost if not words_of(sign)]
    share = 1.0 if not added else sum(word not in lost for word in added) / len(added)
    return share if subject & {*words_of(target)} or not subject else share**2


def pull_of(move: Tensor, samples: Samples) -> float:
    """How far ``NEAREST`` of the scores ``<E(image), target - neutral>`` stand from their mean, above or below it."""
    scores = np.sort((samples.embeddings @ move).numpy().astype(np.float64))
    middle = scores.mean()
    return float(max(scores[-NEAREST:].mean() - middle, middle - scores[:NEAREST].mean()))


def check_prompts_reachable(
    prompts: Sequence[Prompt], pack: Pack, *, num_samples: int, template_set: str
) -> list[Reachability]:
    """Reachability of every prompt, in order."""
    samples = draw_samples(pack, num_samples)
    threshold = null_threshold(pack, num_samples, template_set)
    return [_check(prompt, pack, samples, threshold, template_set) for prompt in prompts]


@lru_cache(maxsize=8)
def null_threshold(pack: Pack, num_samples: int, template_set: str) -> float:
    """The score below which ``NULL_SHARE`` of unrelated prompts stay, against the pack's own neutral text."""
    samples = draw_samples(pack, num_samples)
    neutral = pack.description.neutral
    scores = [score_text(text, neutral, pack.clip, samples, template_set)[0] for text in UNRELATED]
    return float(np.quantile(scores, NULL_SHARE))


def score_text(
    target: str, neutral: str, clip: Clip, samples: Samples, template_set: str
) -> tuple[float, float, float, Tensor]:
    """Score, pull, known share, and the text move [d] from neutral to target, not normalised."""
    forms = templates(template_set)
    move = (clip.encode_prompt(target, forms) - clip.encode_prompt(neutral, forms)).cpu()
    pull = pull_of(move, samples)
    known = known_share(target, neutral, clip.unknown_words(target))
    return pull * known, pull, known, move


def _check(prompt: Prompt, pack: Pack, samples: Samples, threshold: float, template_set: str) -> Reachability:
    unknown = tuple(dict.fromkeys(pack.clip.unknown_words(prompt.target)))
    try:
        score, pull, known, move = score_text(prompt.target, prompt.neutral, pack.clip, samples, template_set)
    except PromptError as error:  # longer than CLIP's context
        return Reachability(prompt.name, False, 0.0, threshold, 0.0, 0.0, 0.0, unknown, (str(error),), ())
    scores = samples.embeddings @ move
    order = scores.argsort(descending=True, stable=True)[:NEAREST].tolist()
    reachable = score > threshold
    suggestions = [] if reachable else suggest(prompt, pack, unknown, length=float(move.norm()))
    return Reachability(
        name=prompt.name,
        reachable=reachable,
        score=score,
        threshold=threshold,
        pull=pull,
        known=known,
        nearest=float((scores > 0).float().mean()),
        unknown_words=unknown,
        suggestions=tuple(suggestions),
        seeds=tuple(samples.seed(i) for i in order),
    )


def suggest(prompt: Prompt, pack: Pack, unknown: Sequence[str], *, length: float) -> list[str]:
    """What a user may change in a prompt that seems out of reach."""
    found = []
    if length < SAME:
        found.append("CLIP sees no difference between target and neutral; say in other words what should change.")
    vocabulary = pack.clip.known_words()
    for word in unknown:
        close = difflib.get_close_matches(word.lower(), vocabulary, n=3, cutoff=0.75)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "; use another word for it."
        found.append(f"CLIP never saw {word!r}{hint}")
    if not found:
        found.append(f"nothing this pack draws ({pack.description.domain}) comes near it; take another pack.")
    return found
