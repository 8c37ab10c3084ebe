"""Edit plans: which surveyed faces a balanced request renders, and which edit each of them gets."""

from collections.abc import Sequence

import storage
from pipeline.config import BalanceConfig, BalancePlanConfig
from pipeline.errors import PipelineError
from pipeline.export.balance import Shares, choose_balanced
from pipeline.export.candidates import load_options, load_yields, surveyed_cells
from pipeline.export.planning import assign_moves, plan_request
from pipeline.export.yields import AS_IT_IS
from pipeline.packs.pack import Pack
from pipeline.prompts import ORIGINAL
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import EDIT_PLAN
from storage import Store

STAGE = EDIT_PLAN.name


def edit_plan_hash(
    config: BalancePlanConfig, pack: Pack, *, request: BalanceConfig, surveys: Sequence[Input], labels: Sequence[Input]
) -> str:
    """The config hash of a plan."""
    inputs = {
        "request": request.identity(),
        "surveys": [survey.state for survey in surveys],
        "labels": [of.state for of in labels],
    }
    return stage_hash(STAGE, config, pack, inputs)


def run_edit_plan(
    config: BalancePlanConfig,
    store: Store,
    pack: Pack,
    *,
    request: BalanceConfig,
    shares: Shares,
    surveys: Sequence[Input],
    labels: Sequence[Input],
) -> ShardReport:
    """Write the plan for the faces of the last survey.

    Args:
        config: how much to spare.
        store: the round's folder.
        pack: whose faces they are.
        request: what is wanted.
        shares: of the request.
        surveys: of unedited faces, those to plan for last.
        labels: of the runs that were rendered before; the pilot's first.
    Raises:
        PipelineError: if no edit of these faces helps.
    """

    def make() -> Made:
        cells = surveyed_cells(surveys[-1], shares)
        faces = dict.fromkeys(cells.values(), 0)
        for cell in cells.values():
            faces[cell] += 1
        there = choose_balanced(request, shares, load_options(request, shares, labels)).cells
        plan = plan_request(
            request,
            load_yields(shares, surveys, labels),
            total=request.total * (1 + config.spare),
            there=there,
            faces=faces,
            most=len(cells),
        )
        assigned = assign_moves(plan, cells, exclusive=request.kind != "images")
        if not assigned:
            raise PipelineError(
                f"a round must add images; of {len(cells)} faces none helps the request. Raise spare or survey_latents."
            )
        order = {latent: i for i, latent in enumerate(cells)}
        assigned.sort(key=lambda pair: (order[pair[0]], pair[1]))
        table = EDIT_PLAN.table(
            {
                "latent_id": [latent for latent, _ in assigned],
                "prompt_id": [ORIGINAL if move == AS_IT_IS else move[0] for _, move in assigned],
                "strength": [move[1] for _, move in assigned],
            }
        )
        return Made({part_path(STAGE, 0): storage.table_bytes(table)}, rows=len(assigned))

    config_hash = edit_plan_hash(config, pack, request=request, surveys=surveys, labels=labels)
    return run_shard(store, STAGE, 0, config_hash=config_hash, pack=pack, make=make)
