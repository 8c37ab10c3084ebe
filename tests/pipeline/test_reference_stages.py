"""Every switch of the reference in the stage that it concerns, against values worked out by a slow way of the tests."""

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import storage
from pipeline import config as configs
from pipeline.config import ChannelDirectionsConfig, OptimizedLatentsConfig, StyleDirectionsConfig
from pipeline.directions.differences import measured_positions
from pipeline.directions.direction import compute_style_direction
from pipeline.directions.published_differences import (
    is_published,
    sum_published_differences,
    truncated_styles,
)
from pipeline.directions.table import check_measured_as
from pipeline.errors import MissingInputError, PipelineError
from pipeline.models.clip import Clip
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.optimization.edit_loss import EditLoss, EditWeights
from pipeline.packs.pack import Pack
from pipeline.reference import CONCERNS, CORRECTED, OFFICIAL, Reference, reference_named, styles_with_gain
from pipeline.stages import style_directions
from pipeline.stages import style_statistics as statistics_stage
from pipeline.stages.dataset import compute_images
from pipeline.style_space import StyleSpace
from storage import Store
from tests.conftest import TINY_CLIP
from tests.pipeline.optimization import test_latents, test_mappers
from tests.pipeline.stages.test_style_directions import TEXT, hand_table
from tests.tolerances import FLOAT32_KERNEL, FLOAT32_STORED, GREY_LEVEL, KEPT_ACTIVATIONS

STEP = 5.0
EVERY = 13  # channels from one that is looked at to the next

SWITCHED = (
    configs.StyleStatisticsConfig,
    configs.ChannelDirectionsConfig,
    configs.StyleDirectionsConfig,
    configs.OptimizedLatentsConfig,
    configs.MappersConfig,
    configs.DatasetConfig,
)


@pytest.mark.parametrize("kind", SWITCHED)
def test_switches_left_alone_are_not_hashed_and_set_ones_are_recorded(kind: type[configs.StageConfig]):
    assert kind.switches
    assert not kind.switches & set(kind().identity())
    for switch in kind.switches:
        default = kind.model_fields[switch].default
        other = {"cutoff": 8, "relevance_cumulative_bug": True, "uint8": "+128", "guard": "zeros"}
        other |= {"torgb_style": "post_gain", "relevance_base": "mean_anchored", "relevance_layers": "res<=128"}
        other |= {"clip_preprocess": "raw_box", "l2_reduction": "sum" if default == "mean" else "mean"}
        other |= {"reuse_mappers": False, "feather": 0.25, "precision": "half", "paste_back": True}
        assert kind(**{switch: other[switch]}).identity()[switch] == other[switch]


def test_every_switch_is_a_field_of_the_settings_it_concerns():
    kinds = {
        "style_statistics": configs.StyleStatisticsConfig,
        "channel_directions": configs.ChannelDirectionsConfig,
        "style_directions": configs.StyleDirectionsConfig,
        "optimized_latents": configs.OptimizedLatentsConfig,
        "mappers": configs.MappersConfig,
        "edited_latents": configs.EditedLatentsConfig,
        "dataset": configs.DatasetConfig,
        "scores": configs.ScoresConfig,
    }
    assert set(CONCERNS) == set(Reference.model_fields)
    for stage, kind in kinds.items():
        assert CORRECTED.settings(stage) == {}
        kind(**OFFICIAL.settings(stage))
        kind(**Reference(**CORRECTED.model_dump()).settings(stage))
    assert OFFICIAL.settings("mappers") == {"clip_preprocess": "raw_box", "norm_axis": "layer"}
    assert reference_named("s_truncation=first8").settings("style_statistics") == {"cutoff": 8}
    assert reference_named("official, uint8=+127.5").settings("dataset") == {"uint8": "+127.5"}
    for stage in ("optimized_latents", "mappers"):
        assert reference_named("l2_reduction=sum").settings(stage) == {"l2_reduction": "sum"}
    assert reference_named("relevance_layers=res<=128").settings("channel_directions") == {
        "relevance_layers": "res<=128"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tf", "must be 'official', or switches such as"),
        ("beta=1", "Switches are clip_preprocess, l2_reduction"),
        ("uint8=128", r"uint8 must be one of round, \+127.5, \+128; got '128'"),
        ("relevance_cumulative_bug=yes", "must be one of False, True"),
    ],
)
def test_reference_that_is_none_is_refused_with_what_there_is(text: str, message: str):
    with pytest.raises(PipelineError, match=message):
        reference_named(text)


# ------------------------------------------------------------------ statistics and directions


def test_style_statistics_post_gain_scale_the_torgb_rows(tiny_pack: Pack, run_store: Store):
    tables = {}
    for convention in ("pre_gain", "post_gain"):
        store = run_store.child(convention)
        config = configs.StyleStatisticsConfig(num_samples=20, torgb_style=convention)
        statistics_stage.run_style_moments_shard(config, store, tiny_pack, 0)
        statistics_stage.run_style_statistics(config, store, tiny_pack)
        tables[convention] = storage.read_tables(store, storage.shard_outputs(store, statistics_stage.STAGE))
    for layer, mean, std, mean_after, std_after in zip(
        *(tables["pre_gain"][c].to_pylist() for c in ("layer", "mean", "std")),
        *(tables["post_gain"][c].to_pylist() for c in ("mean", "std")),
        strict=True,
    ):
        found = tiny_pack.generator.space.layers[layer]
        gain = found.num_channels**-0.5 if found.is_torgb else 1.0
        np.testing.assert_allclose([mean_after, std_after], [mean * gain, std * gain], **FLOAT32_STORED)
    assert styles_with_gain(torch.ones(1, tiny_pack.generator.space.num_channels), tiny_pack.generator.space).min() < 1


def published_loop(pack: Pack, styles: Tensor, mean: Tensor, std: Tensor, config: ChannelDirectionsConfig) -> Tensor:
    """Channel by channel over all images, one render at a time, on arrays that are changed for good as a leak does."""
    leaking = styles.clone()
    rows = []
    for number, position in enumerate(measured_positions(config, pack.generator.space)):
        if number % EVERY:  # not looked at, but it leaks
            if config.relevance_cumulative_bug:
                leaking[:, position] = mean[position]
            continue
        images = leaking if config.relevance_cumulative_bug else styles.clone()
        own = images[:, position].clone()
        if config.relevance_base == "mean_anchored":
            own[:] = mean[position]
        unit = []
        for i in range(len(images)):
            ends = []
            for sign in (1, -1):
                moved = images[i].clone()
                moved[position] = own[i] + sign * STEP * std[position]
                image = pack.generator.render(moved[None], plan=DirectPlan(pack.generator.synthesis, impl="ref"))
                if config.uint8 != "round":
                    offset = {"+128": 128.0, "+127.5": 127.5}[config.uint8]
                    image = (image * 127.5 + offset).clamp(0, 255).floor() / 255 * 2 - 1
                ends.append(pack.clip.encode_images(image)[0])
            unit.append((ends[0] - ends[1]) / (ends[0] - ends[1]).norm())
        total = torch.stack(unit).mean(dim=0)
        rows.append(total / total.norm())
        if config.relevance_cumulative_bug:
            leaking[:, position] = mean[position]
    return torch.stack(rows)


@pytest.mark.parametrize(
    "switches",
    [
        {"relevance_base": "mean_anchored"},
        {"relevance_cumulative_bug": True},
        {"relevance_base": "mean_anchored", "relevance_cumulative_bug": True, "uint8": "+128"},
        {"uint8": "+127.5"},
        {"cutoff": 2},
    ],
)
def test_channel_directions_with_a_switch_equal_the_published_loop(switches: dict, tiny_pack: Pack):
    config = ChannelDirectionsConfig(step=STEP, **switches)
    assert is_published(config)
    styles = truncated_styles(tiny_pack.generator, [3, 4], psi=0.7, cutoff=config.cutoff)
    rng = torch.Generator().manual_seed(0)
    mean = styles.mean(dim=0) + 0.3 * torch.randn(styles.shape[1], generator=rng)
    std = torch.rand(styles.shape[1], generator=rng) * 0.2 + 0.05
    positions = measured_positions(config, tiny_pack.generator.space)[::EVERY]
    arguments = (tiny_pack.generator, tiny_pack.clip, styles)
    values = {"mean": mean, "std": std, "config": config}
    found = sum_published_differences(*arguments, positions=positions, **values).direction().direction
    wanted = published_loop(tiny_pack, styles, mean, std, config)
    torch.testing.assert_close(found, wanted, **(KEPT_ACTIVATIONS if config.uint8 == "round" else GREY_LEVEL))
    half = len(positions) // 2
    later = sum_published_differences(*arguments, positions=positions[half:], **values).direction().direction
    assert torch.equal(later, found[half:])  # a shard works out by itself what came before it
    usual = ChannelDirectionsConfig(step=STEP)
    if config.cutoff is None:
        assert float((published_loop(tiny_pack, styles, mean, std, usual) - wanted).abs().max()) > 1e-2
    else:
        w = tiny_pack.generator.map(torch.randn(1, 8, generator=torch.Generator().manual_seed(3)))
        average = tiny_pack.generator.mapping.w_avg
        w[:, :2] = average + 0.7 * (w[:, :2] - average)
        torch.testing.assert_close(styles[:1], tiny_pack.generator.styles(w), **FLOAT32_KERNEL)


def test_published_layers_are_5376_channels_of_1024_px():
    space = StyleSpace(1024, 32768)
    assert len(measured_positions(ChannelDirectionsConfig(), space)) == 6048
    published = measured_positions(ChannelDirectionsConfig(relevance_layers="res<=128"), space)
    assert len(published) == 5376
    assert space.layers[space.locate(published[-1])[0]].resolution == 128


def test_style_directions_of_the_published_layers_leave_the_others_out(tiny_pack: Pack, run_store: Store):
    from dataclasses import replace

    from pipeline.prompts import check_prompts

    table = replace(hand_table(), layer=np.array([0, 0, 17, 18]), direction=torch.eye(16)[:4])
    prompts = check_prompts([{"name": "hat", "target": "a face with a hat", "neutral": "a face"}])
    for layers, wanted in (("all_conv", {0, 17, 18}), ("res<=128", {0})):
        store = run_store.child(layers.replace("<=", ""))
        config = StyleDirectionsConfig(templates="none", relevance_layers=layers, num_channels=4)
        style_directions.run_style_directions_shard(config, store, tiny_pack, 0, prompts=prompts, channels=table)
        paths = [p for p in storage.shard_outputs(store, style_directions.STAGE) if p.startswith("style_directions/")]
        assert set(storage.read_tables(store, paths)["layer"].to_pylist()) == wanted


def test_guard_zeros_gives_a_direction_without_channels_and_leaves_others_alone():
    none = compute_style_direction(hand_table(), TEXT, relevance_threshold=0.9, guard="zeros")
    assert (none.rows.size, none.value.size, none.threshold) == (0, 0, 0.9)
    assert none.max_relevance == pytest.approx(0.6)
    some = compute_style_direction(hand_table(), TEXT, relevance_threshold=0.5, guard="zeros")
    assert some.rows.tolist() == [0]


def test_reference_of_the_table_needs_that_table(tiny_pack: Pack, run_store: Store):
    check_measured_as(CORRECTED, tiny_pack, run_store)
    check_measured_as(reference_named("uint8=+128"), tiny_pack, run_store, screened=True)
    with pytest.raises(MissingInputError, match="styleclip channel-directions --reference"):
        check_measured_as(OFFICIAL, tiny_pack, run_store)


# ------------------------------------------------------------------ optimisation, mappers, images


def test_raw_box_shows_clip_the_published_pixels():
    torch.manual_seed(0)
    vision = {**TINY_CLIP["vision_cfg"], "image_size": 64}
    model = open_clip.CLIP(**{**TINY_CLIP, "vision_cfg": vision})
    clip = Clip(model, None, image_size=64, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    images = torch.rand(2, 3, 96, 96) * 3 - 1.5
    shown = F.avg_pool2d(F.interpolate(images, scale_factor=2, mode="nearest"), 3)  # 64 / 32 up, 96 / 32 down
    wanted = F.normalize(model.encode_image(shown), dim=1)
    raw, usual = EditLoss(clip, None, preprocess="raw_box"), EditLoss(clip, None)
    torch.testing.assert_close(raw.embed_images(images), wanted, **FLOAT32_KERNEL)
    torch.testing.assert_close(raw.embed_sources(images).clip, wanted, **FLOAT32_KERNEL)
    assert float((usual.embed_images(images) - wanted).abs().max()) > 1e-3
    values = {"l2": torch.zeros(2), "sources": raw.embed_sources(images), "targets": wanted, "directions": wanted}
    torch.testing.assert_close(raw.terms(images, **values)[:, 0], torch.zeros(2), **FLOAT32_KERNEL)


def test_raw_box_on_sizes_it_cannot_do_says_so(tiny_pack: Pack):
    with pytest.raises(PipelineError, match="multiple of 32 px; pack 'tiny' has 16 and 16 px"):
        EditLoss.of_pack(tiny_pack, [EditWeights()], preprocess="raw_box")


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_optimizers_l2_is_reduced_as_said(reduction: str, tiny_pack: Pack):
    config = OptimizedLatentsConfig(**{**test_latents.SHORT.model_dump(), "l2_reduction": reduction})
    (pair,) = test_latents.make_pairs(tiny_pack, num_latents=1)[:1]
    (outcome,) = test_latents.run(tiny_pack, [pair], config)
    assert outcome.vector is not None
    moves = (torch.from_numpy(outcome.vector) - pair.w_plus.reshape(-1)).square()
    wanted = float(moves.sum()) if reduction == "sum" else float(moves.sum()) / moves.numel()
    assert outcome.curve[outcome.best_step][3] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("kind", ["levels", "styles"])
def test_mappers_l2_is_reduced_as_said(kind: str, tiny_pack: Pack):
    terms = {}
    for reduction in ("mean", "sum"):
        changes = {"kind": kind, "l2_reduction": reduction, "num_steps": 1}
        config = test_mappers.SHORT.model_copy(update=changes)
        trained = test_mappers.train(tiny_pack, test_mappers.make_tasks(tiny_pack)[:1], config)[0]
        terms[reduction] = next(losses for split, step, losses in trained.curve if split == "validation" and step == 0)
    space = tiny_pack.generator.space
    if kind == "levels":
        assert terms["sum"][3] == pytest.approx(terms["mean"][3] * space.num_ws * 8, rel=1e-4)
    else:  # every layer has its own width
        low, high = (f(x.num_channels for x in space.editable) for f in (min, max))
        assert low - 1e-3 <= terms["sum"][3] / terms["mean"][3] <= high + 1e-3
    assert terms["sum"][1] == terms["mean"][1]


@pytest.mark.parametrize(("how", "offset"), [("+127.5", 127.5), ("+128", 128.0)])
def test_dataset_images_are_cut_to_8_bits_as_said(how, offset: float, tiny_pack: Pack):
    styles = truncated_styles(tiny_pack.generator, [0, 1], psi=1.0, cutoff=None)
    rendered = tiny_pack.generator.render(styles).permute(0, 2, 3, 1).numpy()
    wanted = np.floor(np.clip(rendered * np.float32(127.5) + np.float32(offset), 0, 255)).astype(np.uint8)

    def images(**rounding) -> np.ndarray:
        return np.stack([r.image for r in compute_images(tiny_pack.generator, styles, batch_size=2, **rounding)])

    assert np.array_equal(images(rounding=how), wanted)
    usual = images()
    if how == "+127.5":
        assert not np.array_equal(usual, wanted)
