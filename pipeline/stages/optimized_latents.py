"""Optimised latents: every latent with every prompt of method ``optimize``, found by gradient descent."""

from collections.abc import Sequence

from pipeline.config import OptimizedLatentsConfig
from pipeline.errors import PromptError
from pipeline.optimization.edit_loss import TERMS, EditLoss, EditWeights, TextTarget, text_target
from pipeline.optimization.latents import Outcome, Pair, optimize, pair_weights
from pipeline.optimization.pairs import PairTables, load_earlier_pairs, make_pairs_shard, pairs_contents
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt
from pipeline.runs.shard import Input, Made, ShardReport, count_shards, run_shard, stage_hash
from pipeline.schemas import OPTIMIZATION_CURVES, OPTIMIZATION_IMAGES, OPTIMIZED_LATENTS
from storage import Store

STAGE = OPTIMIZED_LATENTS.name


def optimized_latents_hash(config: OptimizedLatentsConfig, pack: Pack, latents: Input) -> str:
    """The config hash of the optimised latents, of whatever prompts."""
    return stage_hash(STAGE, config, pack, {"latents": latents.config_hash})


def optimized_latents_num_shards(config: OptimizedLatentsConfig, prompts: Sequence[Prompt], latents: Input) -> int:
    """Shards of a run: pairs are cut latent by latent, each with all prompts."""
    return count_shards(latents.rows * len(prompts), config.shard_size)


def default_weights(config: OptimizedLatentsConfig) -> EditWeights:
    """Weights of prompts that name none."""
    return EditWeights(config.clip_weight, config.direction_weight, config.l2_weight, config.identity_weight)


def load_texts(
    config: OptimizedLatentsConfig, pack: Pack, prompts: Sequence[Prompt]
) -> dict[str, TextTarget | PromptError]:
    """prompt_id to its place in CLIP space, or why it has none."""
    texts: dict[str, TextTarget | PromptError] = {}
    for prompt in prompts:
        try:
            texts[prompt.prompt_id] = text_target(prompt, pack, default_weights(config), template_set=config.templates)
        except PromptError as error:
            texts[prompt.prompt_id] = error
    return texts


def compute_optimized_latents(pack: Pack, pairs: Sequence[Pair], config: OptimizedLatentsConfig) -> list[Outcome]:
    """Outcomes of pairs, in order; see ``pipeline.optimization.latents.optimize``."""
    loss = EditLoss.of_pack(
        pack,
        [pair_weights(pair.text.weights, config) for pair in pairs],
        preprocess=config.clip_preprocess,
        precision=config.precision,
    )
    return optimize(pack.generator, loss, pairs, config)


def run_optimized_latents_shard(
    config: OptimizedLatentsConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    prompts: Sequence[Prompt],
    latents: Input,
) -> ShardReport:
    """Optimise one range of pairs.

    A pair of a latent that failed upstream, of an unusable prompt, or whose loss is not finite becomes a failed row.
    """
    tables = PairTables(
        OPTIMIZED_LATENTS,
        OPTIMIZATION_CURVES,
        OPTIMIZATION_IMAGES,
        terms=TERMS,
        space="styles" if config.space == "styles" else "w_plus",  # a move in w is one in w_plus
        seed=config.seed,
    )
    config_hash = optimized_latents_hash(config, pack, latents)
    contents = pairs_contents(prompts, latents, shard=shard, shard_size=config.shard_size)

    def make() -> Made:
        return make_pairs_shard(
            pack,
            prompts,
            latents,
            shard=shard,
            shard_size=config.shard_size,
            texts=load_texts(config, pack, prompts),
            find=lambda own, pairs: compute_optimized_latents(own, pairs, config),
            tables=tables,
            earlier=load_earlier_pairs(store, tables, contents, config_hash=config_hash),
        )

    return run_shard(
        store,
        STAGE,
        shard,
        config_hash=config_hash,
        contents=contents,
        pack=pack,
        make=make,
        precision=config.precision,
    )
