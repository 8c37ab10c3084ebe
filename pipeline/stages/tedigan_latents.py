"""TediGAN's latents: every latent with every prompt of method ``tedigan``, the baseline to beat."""

from collections.abc import Sequence

from pipeline.config import TediganLatentsConfig
from pipeline.errors import PromptError
from pipeline.optimization.edit_loss import EditWeights, TextTarget, text_target
from pipeline.optimization.pairs import PairTables, load_earlier_pairs, make_pairs_shard, pairs_contents
from pipeline.optimization.tedigan import TERMS, optimize_tedigan
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt
from pipeline.runs.shard import Input, Made, ShardReport, count_shards, run_shard, stage_hash
from pipeline.schemas import TEDIGAN_CURVES, TEDIGAN_IMAGES, TEDIGAN_LATENTS
from storage import Store

STAGE = TEDIGAN_LATENTS.name


def tedigan_latents_hash(config: TediganLatentsConfig, pack: Pack, latents: Input) -> str:
    """The config hash of the latents, of whatever prompts."""
    return stage_hash(STAGE, config, pack, {"latents": latents.config_hash})


def tedigan_latents_num_shards(config: TediganLatentsConfig, prompts: Sequence[Prompt], latents: Input) -> int:
    """Shards of a run: pairs are cut latent by latent, each with all prompts."""
    return count_shards(latents.rows * len(prompts), config.shard_size)


def load_texts(
    config: TediganLatentsConfig, pack: Pack, prompts: Sequence[Prompt]
) -> dict[str, TextTarget | PromptError]:
    """prompt_id to its place in CLIP space, or why it has none."""
    texts: dict[str, TextTarget | PromptError] = {}
    for prompt in prompts:
        try:
            texts[prompt.prompt_id] = text_target(prompt, pack, EditWeights(), template_set=config.templates)
        except PromptError as error:
            texts[prompt.prompt_id] = error
    return texts


def run_tedigan_latents_shard(
    config: TediganLatentsConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    prompts: Sequence[Prompt],
    latents: Input,
) -> ShardReport:
    """Search for one range of pairs; see ``pipeline.optimization.tedigan``."""
    tables = PairTables(TEDIGAN_LATENTS, TEDIGAN_CURVES, TEDIGAN_IMAGES, terms=TERMS, space="w_plus", seed=config.seed)
    config_hash = tedigan_latents_hash(config, pack, latents)
    contents = pairs_contents(prompts, latents, shard=shard, shard_size=config.shard_size)

    def make() -> Made:
        return make_pairs_shard(
            pack,
            prompts,
            latents,
            shard=shard,
            shard_size=config.shard_size,
            texts=load_texts(config, pack, prompts),
            find=lambda own, pairs: optimize_tedigan(own, pairs, config),
            tables=tables,
            earlier=load_earlier_pairs(store, tables, contents, config_hash=config_hash),
        )

    return run_shard(store, STAGE, shard, config_hash=config_hash, contents=contents, pack=pack, make=make)
