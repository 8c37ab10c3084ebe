"""Measure the CLIP that judges: does it see what the drawings show, does it agree with the oracle, is it hard to fool?

    python -m examples.peeps.evaluate_judge --pack pipeline/packs/peeps

``examples.peeps.evaluate`` measures this too; alone it renews the judge's lines of the evaluation beside the pack.

Letters: n image, d embedding width.
"""

import argparse

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from examples.peeps.captions import frame, visible_labels
from examples.peeps.domain import ATTRIBUTES
from examples.peeps.findings import Finding, listed, read_findings, write_findings
from examples.peeps.free_wording import FIRST_SEED, default_direction, move, render
from examples.peeps.judge import read_labels
from examples.peeps.render import draw, sample_split
from examples.peeps.train_judge import SIXTEENTH, held_out_phrases
from examples.peeps.wishes import read_free_prompts
from kernels import unit_vectors
from pipeline.directions.table import load_channel_table
from pipeline.models.clip import Clip
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack, load_pack
from pipeline.pixels import from_rgb_arrays
from pipeline.prompts import templates

TEMPLATES = "imagenet_79"
JUDGE = "judge: "  # how its lines begin
TEST_SEED = 7_770  # of drawings
STEPS, STEP, REACH = 20, 0.02, 0.1  # of the attack: steps, size of a step and farthest from the picture, on [-1, 1]


def embed(clip: Clip, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n d"]:
    """Unit embeddings, without gradients."""
    with torch.no_grad():
        return torch.cat([clip.encode_images(x) for x in images.split(50)])


def zero_shot(pack: Pack, count: int) -> list[Finding]:
    """Accuracy per attribute on drawings, with phrases and sentence forms, that the judge was not trained on."""
    labels = sample_split(count, TEST_SEED, validation=True, sixteenth=SIXTEENTH)
    embedded = embed(pack.judge, from_rgb_arrays(np.stack([draw(label) for label in labels])))
    visible, rng, scores = visible_labels(labels), np.random.default_rng(7), {}
    for number, attribute in enumerate(ATTRIBUTES):
        classes = []
        for category in attribute.categories:
            phrase = held_out_phrases()[attribute.name][category]
            texts = [frame(f"face with {phrase}", rng, held_out_forms=True) for _ in range(3)]
            classes.append(unit_vectors(pack.judge.encode_texts(texts).mean(dim=0)))
        guess = (embedded @ torch.stack(classes).T).argmax(dim=1).numpy()
        seen = visible[:, number] >= 0
        scores[attribute.name] = float((guess == visible[:, number])[seen].mean())
    what = f"{JUDGE}zero-shot accuracy with held-out phrases and sentence forms, {count} drawings"
    return [
        Finding(f"{what}, worst attribute", min(scores.values()), 0.9, detail=listed(scores)),
        Finding(f"{what}, mean", float(np.mean(list(scores.values()))), 0.95),
    ]


def agreement(pack: Pack, faces: int, every: int) -> list[Finding]:
    """Oracle and judge on pictures before and after edits in free wording, at a sixth, a third and all of the strength.

    The weaker edits are there because at full strength nearly all come true, and there would be nothing to tell apart.
    """
    table, strength = load_channel_table(pack), pack.description.strength
    styles = pack.generator.styles(sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + faces), psi=0.7))
    before = render(pack, styles)
    labels = read_labels(pack.oracle, before)
    start = {name: embed(clip, before) for name, clip in _eyes(pack).items()}
    gains: dict[str, list[float]] = {name: [] for name in start}
    ranked: list[float] = []
    pairs, pictures = 0, 0
    prompts = read_free_prompts()[::every]
    for prompt in prompts:
        text = pack.clip.text_direction(prompt.target, prompt.neutral, templates(TEMPLATES)).cpu()
        direction = default_direction(pack, table, text)
        target = {name: clip.encode_prompt(prompt.target, templates(TEMPLATES)) for name, clip in _eyes(pack).items()}
        holds = np.all([wish.holds(labels) for wish in prompt.wishes], axis=0)
        shown, scores = [holds], [(start["judge"] @ target["judge"]).numpy()]
        for share in (1 / 6, 1 / 3, 1):
            images = render(pack, move(pack, table, styles, direction, share * strength))
            shown.append(np.all([wish.holds(read_labels(pack.oracle, images)) for wish in prompt.wishes], axis=0))
            embedded = {name: embed(clip, images) for name, clip in _eyes(pack).items()}
            scores.append((embedded["judge"] @ target["judge"]).numpy())
        came = torch.from_numpy(shown[-1] & ~holds)  # at full strength
        for name in gains if bool(came.any()) else ():
            gains[name].append(float(((embedded[name] - start[name]) @ target[name])[came].mean()))
        there, score = np.concatenate(shown), np.concatenate(scores)
        above = score[there][:, None] > score[~there]
        ranked.append(float(above.sum()))
        pairs, pictures = pairs + above.size, pictures + len(there)
    return [
        Finding(
            f"{JUDGE}of two pictures, one with the wish and one without in the eyes of the oracle, it finds the first "
            f"closer to the prompt; {len(prompts)} prompts in free wording, {faces} faces before and after edits",
            sum(ranked) / pairs,
            0.9,
            detail=f"{pairs:,} pairs of {pictures:,} pictures",
        ),
        Finding(
            f"{JUDGE}mean gain on edits that came true",
            float(np.mean(gains["judge"])),
            0.1,
            detail=f"guide {np.mean(gains['guide']):+.3f}",
        ),
    ]


def attack(
    clip: Clip, images: Float[Tensor, "n 3 r r"], target: Float[Tensor, "d"], *, steps: int = STEPS
) -> Float[Tensor, "n 3 r r"]:
    """Pictures that a CLIP finds much closer to a text and that show nothing new: projected gradient steps on pixels.

    Source: Madry et al. 2018, in the maximum norm.
    """
    found = images.clone()
    for _ in range(steps):
        found.requires_grad_(True)
        (gradient,) = torch.autograd.grad((clip.encode_images(found) @ target).sum(), found)
        found = found.detach() + STEP * gradient.sign()
        found = images + (found - images).clamp(-REACH, REACH)
    return found.clamp(-1, 1)


def fooled(pack: Pack, faces: int) -> Finding:
    """The judge's gain on pictures whose pixels were moved until the guide saw the wish, as a share of the guide's."""
    styles = pack.generator.styles(sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + faces), psi=0.7))
    images, gains = render(pack, styles), {"guide": [], "judge": []}
    for prompt in read_free_prompts()[::8]:
        target = {name: c.encode_prompt(prompt.target, ("{}",)) for name, c in _eyes(pack).items()}
        moved = attack(pack.clip, images, target["guide"])
        for name, clip in _eyes(pack).items():
            gains[name].append(float(((embed(clip, moved) - embed(clip, images)) @ target[name]).mean()))
    guide, judge = (float(np.mean(gains[name])) for name in ("guide", "judge"))
    return Finding(
        f"{JUDGE}its gain as a share of the guide's, where only the guide is fooled (pixels moved by at most "
        f"{REACH:g} on [-1, 1])",
        judge / guide,
        0.25,
        at_least=False,
        detail=f"guide {guide:+.3f}, judge {judge:+.3f}",
    )


def _eyes(pack: Pack) -> dict[str, Clip]:
    return {"guide": pack.clip, "judge": pack.judge}


def judge_findings(pack: Pack, drawings: int, faces: int, every: int = 1) -> list[Finding]:
    """All that is measured of the judge; edits of every ``every``-th prompt."""
    return [*zero_shot(pack, drawings), *agreement(pack, faces, every), fooled(pack, min(faces, 12))]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", default="peeps", help="name or folder")
    parser.add_argument("--count", type=int, default=500, help="held-out drawings")
    parser.add_argument("--faces", type=int, default=12, help="seeds edited per prompt in free wording")
    parser.add_argument("--every", type=int, default=1, help="edit only every so many-th prompt in free wording")
    args = parser.parse_args()
    pack = load_pack(args.pack, device="cpu")
    findings, edits = read_findings(pack)
    found = judge_findings(pack, args.count, args.faces, args.every)
    write_findings(pack, [*(f for f in findings if not f.what.startswith(JUDGE)), *found], edits)
    for f in found:
        print(f"{f.what}: {f.value:.3f} ({f.detail}){'' if f.holds else ' missed'}")


if __name__ == "__main__":
    main()
