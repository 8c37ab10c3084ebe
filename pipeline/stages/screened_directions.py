"""Screened directions: channel directions measured only where a prompt list needs them, or from slopes alone.

1. Texts: the direction of every prompt, once.
2. Slopes: the derivative of the embedding along every channel, shards by images (``pipeline.directions.slopes``).
3. Rounds (mode screened): a plan names the channels to measure next and is written before any of them is measured;
   its shards render and sum unit differences as the exact table does; the next plan reads their sums.
4. The directions of all measured channels, and their sums, which a later prompt list can go on from.

Every step leaves a receipt, and a plan is read, never made twice: a killed run goes on where it was, and ends in the
same bytes. Measured image k of a channel is number ``(num_gradient_images + k) % num_images``, so that the first
differences are of images whose slopes were not looked at.
"""

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import storage
from kernels import ChannelDirection, DirectionSums, probe_rows
from pipeline.config import ScreeningConfig
from pipeline.directions.differences import (
    IMAGES_TOGETHER,
    editable_positions,
    image_styles,
    sum_control_differences,
    sum_differences,
)
from pipeline.directions.groups import find_groups_at
from pipeline.directions.screening import (
    ScreeningRule,
    known_channels,
    measured_directions,
    measured_effects,
    plan_round,
)
from pipeline.directions.slopes import Slopes, sum_slopes
from pipeline.directions.statistics import Statistics
from pipeline.directions.sums_table import directions_table, merge_sums, sums_table
from pipeline.errors import PromptError
from pipeline.machine.batch_size import choose_batch_size
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt, templates
from pipeline.runs.contents import keys_of
from pipeline.runs.shard import (
    Contents,
    Input,
    Made,
    ShardReport,
    count_shards,
    part_path,
    run_shard,
    shard_bounds,
    stage_hash,
)
from pipeline.schemas import SCREENING_PLAN
from storage import Store

STAGE = "screened_directions"
TEXTS_STAGE = "screening_texts"
SLOPES_STAGE = "channel_slopes"
PLAN_STAGE = SCREENING_PLAN.name
SUMS_FOLDER = "_screened_sums"
MEASURED_KEY = "measured_with"
DECISIONS = (
    2  # raised when other channels are chosen from the same slopes and sums: a run begun before is not gone on with
)


def screened_directions_hash(
    config: ScreeningConfig,
    pack: Pack,
    *,
    statistics: Statistics,
    earlier: Input | None = None,
) -> str:
    """The config hash of the directions, of whatever prompts; ``earlier`` is the run whose sums they go on from."""
    before = None if earlier is None else earlier.config_hash
    inputs = {"style_statistics": statistics.source, "earlier": before, "decisions": DECISIONS}
    return stage_hash(STAGE, config, pack, inputs)


def screened_directions_contents(prompts: Sequence[Prompt], earlier: Input | None = None) -> Contents:
    """What every shard of a screening is made of: which channels are measured follows from the whole list."""
    listed = keys_of((p.prompt_id, p.model_dump(mode="json")) for p in prompts)
    return {"prompts": listed, "earlier": None if earlier is None else earlier.state}


def measured_with(config: ScreeningConfig, pack: Pack, statistics: Statistics) -> str:
    """What two runs must share for one to go on from the other's sums: images, step, order, pack and statistics."""
    fields = ("num_gradient_images", "num_images", "first_seed", "psi", "step")
    fields += ("by_control",) if config.by_control else ()
    return storage.config_hash(
        {**{f: getattr(config, f) for f in fields}, "pack": pack.digest, "style_statistics": statistics.source}
    )


class Screening:
    """One prompt list's screening in one run: what every shard needs to know.

    Args:
        config: settings.
        store: the run.
        pack: models.
        prompts: checked prompts.
        statistics: standard deviations of the channels.
        earlier: a finished screening of another prompt list to go on from; must have been measured alike.
    """

    def __init__(
        self,
        config: ScreeningConfig,
        store: Store,
        pack: Pack,
        *,
        prompts: list[Prompt],
        statistics: Statistics,
        earlier: Input | None = None,
    ) -> None:
        self.config, self.store, self.pack, self.prompts = config, store, pack, prompts
        self.statistics, self.earlier = statistics, earlier
        self.rule = ScreeningRule.deciding_by(config.rule, config.num_images)
        self.positions = editable_positions(pack.generator.space)
        self.groups = find_groups_at(pack, self.positions) if config.by_control else None
        self.config_hash = screened_directions_hash(config, pack, statistics=statistics, earlier=earlier)
        self.contents = screened_directions_contents(prompts, earlier)

    @property
    def num_rounds(self) -> int:
        """Rounds of measuring; none from slopes alone."""
        return self.config.num_rounds if self.config.mode == "screened" else 0

    @property
    def num_slopes_shards(self) -> int:
        """Shards of slopes."""
        return count_shards(self.config.num_gradient_images, self.config.images_per_shard)

    def num_sums_shards(self, number: int) -> int:
        """Shards of a planned round of measuring."""
        return count_shards(len(self._read_plan(number)), self.config.shard_size)

    def run_texts(self) -> ShardReport:
        """The text direction of every prompt and how many channels it keeps; prompts without one are left out."""

        def make() -> Made:
            directions, kept = compute_text_directions(self.config, self.pack, self.prompts)
            arrays = {"direction": directions.numpy(), "num_kept": np.array(kept)}
            path = f"_{TEXTS_STAGE}/part-00000.safetensors"
            return Made({path: storage.arrays_bytes(arrays)}, rows=len(kept), failures=len(self.prompts) - len(kept))

        return self._run(TEXTS_STAGE, 0, make)

    def run_slopes_shard(self, shard: int) -> ShardReport:
        """Slopes of all channels over one range of images. Needs the texts."""

        def make() -> Made:
            config, pack = self.config, self.pack
            images = shard_bounds(config.num_gradient_images, config.images_per_shard, shard)
            seeds = [config.first_seed + i for i in images]
            texts = self._read_texts()[0]
            slopes = sum_slopes(
                pack.generator,
                pack.clip,
                image_styles(pack.generator, seeds, psi=config.psi),
                std=self.statistics.std,
                probes=probe_rows(texts, num_probes=config.num_probes),
                text_directions=texts,
                batch_size=choose_batch_size(
                    pack.generator, config.gradient_batch_size, gradient=True, precision=config.precision
                ),
                precision=config.precision,
                groups=self.groups,
            )
            table = sums_table(pack.generator.space, self.positions, slopes.sums)
            files = {
                part_path(f"_{SLOPES_STAGE}", shard): storage.table_bytes(table),
                self._aligned_path(shard): storage.arrays_bytes({"aligned": slopes.aligned.numpy()}),
            }
            return Made(files, rows=table.num_rows)

        return self._run(SLOPES_STAGE, shard, make)

    def run_plan(self, number: int) -> ShardReport:
        """Which channels round ``number`` measures. Needs the slopes and the sums of all rounds before."""

        def make() -> Made:
            directions, kept = self._read_texts()
            sums = self._read_sums(number)
            rows = plan_round(
                self._read_slopes(),
                sums,
                directions,
                kept,
                number=number,
                room=self._room(number, len(kept)),
                rule=self.rule,
            ).tolist()
            located = [self.pack.generator.space.locate(self.positions[row]) for row in rows]
            table = SCREENING_PLAN.table(
                {
                    "layer": [layer for layer, _ in located],
                    "channel": [channel for _, channel in located],
                    "seen": sums.seen[rows].numpy(),
                }
            )
            return Made({part_path(f"_{PLAN_STAGE}", number): storage.table_bytes(table)}, rows=len(rows))

        return self._run(PLAN_STAGE, number, make)

    def run_sums_shard(self, number: int, shard: int) -> ShardReport:
        """Measure one range of a round's channels, each in its next images. Needs the plan."""

        def make() -> Made:
            plan = self._read_plan(number)
            part = [plan[i] for i in shard_bounds(len(plan), self.config.shard_size, shard)]
            table = sums_table(self.pack.generator.space, [p for p, _ in part], self._measure(part, number))
            return Made({self._sums_path(number, shard): storage.table_bytes(table)}, rows=len(part))

        return self._run(self.sums_stage(number), shard, make)

    def run_directions(self) -> ShardReport:
        """The table of directions, and the sums that a later prompt list can go on from. Needs all the rest."""

        def make() -> Made:
            space, slopes = self.pack.generator.space, self._read_slopes().sums
            sums = self._read_sums(self.num_rounds)
            if self.config.mode == "gradient":
                found, effect = slopes.direction(), slopes.mean_effect() * self.rule.slope_reach
            else:
                found = measured_directions(slopes, sums, self.rule)
                known = known_channels(sums, self.rule)
                unknown = ~known[:, None]
                found = ChannelDirection(
                    found.direction.masked_fill(unknown, 0.0), found.agreement, found.count * known
                )
                effect = measured_effects(slopes, sums, self.rule).masked_fill(unknown, 0.0)
            if self.groups is not None:  # every channel of a control has the direction of the whole
                alike = self.groups.leaders[self.groups.group]
                moves = (self.groups.copy(x) for x in (found.direction, effect))
                direction, effect = moves
                found = ChannelDirection(direction, found.agreement[alike], found.count[alike])
            table = directions_table(space, self.positions, found, effect, self.statistics.std, no_count="not_measured")
            metadata = {MEASURED_KEY: measured_with(self.config, self.pack, self.statistics)}
            totals = sums_table(space, self.positions, sums, metadata=metadata)
            files = {
                part_path(STAGE, 0): storage.table_bytes(table),
                part_path(SUMS_FOLDER, 0): storage.table_bytes(totals),
            }
            return Made(files, rows=table.num_rows)

        return self._run(STAGE, 0, make)

    def renders(self, rounds: int) -> int:
        """Renders of the slopes' images and of the first ``rounds`` rounds; backward passes are not counted."""
        pairs = 0
        for number in range(rounds):
            images = self.rule.round(number).images
            pairs += sum(images - seen for _, seen in self._read_plan(number))
        return self.config.num_gradient_images + 2 * pairs

    def _room(self, number: int, num_prompts: int) -> int:
        """Pairs of renders that the budget still allows in round ``number``."""
        live = int((self.statistics.std[self.positions] > 0).sum())
        each, given = max(1, live * self.config.num_images * 2 // 100), self.config.renders_per_prompt
        total = each * (num_prompts + 1) if given is None else given * num_prompts
        return (total - self.renders(number)) // 2

    def _measure(self, part: Sequence[tuple[int, int]], number: int) -> DirectionSums:
        """Sums of (position, images seen before) pairs over each one's images of a round, in the order given."""
        config, pack = self.config, self.pack
        total: DirectionSums | None = None
        order = sorted(range(len(part)), key=lambda i: part[i][1])
        for seen, members in groupby(order, key=lambda i: part[i][1]):
            rows = list(members)
            images = range(seen, self.rule.round(number).images)
            numbers = [(config.num_gradient_images + k) % config.num_images for k in images]
            styles = image_styles(pack.generator, [config.first_seed + i for i in numbers], psi=config.psi)
            alone = [i for i in rows if len(self._members(part[i][0])) == 1]
            together = [i for i in rows if i not in alone]
            measured = []
            if alone:
                found = sum_differences(
                    pack.generator,
                    pack.clip,
                    styles,
                    positions=[part[i][0] for i in alone],
                    std=self.statistics.std,
                    step=config.step,
                    batch_size=choose_batch_size(pack.generator, config.batch_size, precision=config.precision),
                    precision=config.precision,
                    images_together=min(len(numbers), IMAGES_TOGETHER),
                )
                measured.append((alone, found))
            if together:
                found = sum_control_differences(
                    pack.generator,
                    pack.clip,
                    styles,
                    controls=[self._members(part[i][0]) for i in together],
                    std=self.statistics.std,
                    step=config.step,
                    precision=config.precision,
                )
                measured.append((together, found))
            for chosen, found in measured:
                total = total or DirectionSums.empty(len(part), found.total.shape[1])
                total = total.add_at(torch.tensor(chosen), found)
        assert total is not None, "a shard has at least one channel"
        return total

    def _members(self, position: int) -> list[tuple[int, float]]:
        """Positions and signs of the channels that move with one."""
        if self.groups is None:
            return [(position, 1.0)]
        number = int(self.groups.group[self.positions.index(position)])
        rows = torch.nonzero(self.groups.group == number).flatten().tolist()
        return [(self.positions[row], float(self.groups.sign[row])) for row in rows]

    def _run(self, stage: str, shard: int, make: Callable[[], Made]) -> ShardReport:
        return run_shard(
            self.store,
            stage,
            shard,
            config_hash=self.config_hash,
            contents=self.contents,
            pack=self.pack,
            make=make,
            precision=self.config.precision,
        )

    def _read_texts(self) -> tuple[Float[Tensor, "p d"], list[int]]:
        arrays = storage.read_arrays(self.store, storage.shard_outputs(self.store, TEXTS_STAGE)[0])
        return torch.from_numpy(arrays["direction"].copy()), arrays["num_kept"].tolist()

    def _read_slopes(self) -> Slopes:
        shards = range(self.num_slopes_shards)
        tables = (storage.read_table(self.store, part_path(f"_{SLOPES_STAGE}", i)) for i in shards)
        sums = merge_sums(self.pack.generator.space, self.positions, tables)
        aligned = torch.zeros(len(self.positions), len(self._read_texts()[0]), dtype=torch.int64)
        for i in shards:
            aligned += torch.from_numpy(storage.read_arrays(self.store, self._aligned_path(i))["aligned"])
        return Slopes(sums, aligned)

    def _aligned_path(self, shard: int) -> str:
        return f"_{SLOPES_STAGE}/aligned-{shard:05d}.safetensors"

    def _read_plan(self, number: int) -> list[tuple[int, int]]:
        table = storage.read_table(self.store, part_path(f"_{PLAN_STAGE}", number))
        rows = zip(*(table[name].to_pylist() for name in ("layer", "channel", "seen")), strict=True)
        return [(self.pack.generator.space.position(layer, channel), seen) for layer, channel, seen in rows]

    def _read_sums(self, rounds: int) -> DirectionSums:
        """Sums of all editable channels: the earlier run's, and those of the first ``rounds`` rounds."""
        width = self._read_texts()[0].shape[1]
        tables = [sums_table(self.pack.generator.space, [], DirectionSums.empty(0, width))]
        if self.earlier is not None:
            tables.append(self.earlier.table(folder=SUMS_FOLDER).replace_schema_metadata(None))
        for number in range(rounds):
            shards = range(self.num_sums_shards(number))
            tables += [storage.read_table(self.store, self._sums_path(number, shard)) for shard in shards]
        return merge_sums(self.pack.generator.space, self.positions, tables)

    def sums_stage(self, number: int) -> str:
        """Name of a round's stage."""
        return f"screened_sums_{number}"

    def _sums_path(self, number: int, shard: int) -> str:
        return part_path(f"_{self.sums_stage(number)}", shard)


def compute_text_directions(
    config: ScreeningConfig, pack: Pack, prompts: list[Prompt]
) -> tuple[Float[Tensor, "p d"], list[int]]:
    """Text direction and number of kept channels of every prompt that has a direction; the others are left out.

    Raises:
        PromptError: if none has one; with the first one's reason.
    """
    directions, kept, reasons = [], [], []
    for prompt in prompts:
        try:
            found = pack.clip.text_direction(prompt.target, prompt.neutral, templates(config.templates))
        except PromptError as error:
            reasons.append(f"prompt {prompt.name!r}: {error}")
            continue
        directions.append(found.cpu())
        kept.append(prompt.num_channels or config.num_channels or pack.description.num_channels)
    if not directions:
        raise PromptError(f"at least one prompt must have a text direction; got none of {len(prompts)}. {reasons[0]}")
    return torch.stack(directions), kept


def accepts(earlier: Input, config: ScreeningConfig, pack: Pack, statistics: Statistics) -> bool:
    """Whether a finished screening's sums were measured alike, so that this one may go on from them."""
    metadata = storage.read_metadata(earlier.store, part_path(SUMS_FOLDER, 0))
    return metadata.get(MEASURED_KEY.encode()) == f'"{measured_with(config, pack, statistics)}"'.encode()
