"""Parameters in groups: what stands together in a command's help and in Prefect's form, and in which order.

Names stay flat, for the command, the API and the deployments that use them: a group is a panel in the help and the
first word of a field's title in the form, which knows no other way for parameters that are not nested.
"""

from flows.parameters import Parameter
from pipeline import config

RUN, WORK = "Run", "Work"
GROUPS = (
    RUN,
    "Method",
    "Plan",
    "Photos",
    "Latents",
    "Directions",
    "Trials",
    "Edits",
    "Search",
    "Mappers",
    "Images",
    "Scores",
    "Comparison",
    "Accepted",
    "Export",
    "Gallery",
    "Report",
    WORK,
)
_OF_SETTINGS = {
    config.StyleStatisticsConfig: "Directions",
    config.ChannelDirectionsConfig: "Directions",
    config.ScreeningConfig: "Directions",
    config.StyleDirectionsConfig: "Directions",
    config.TrialsConfig: "Trials",
    config.OptimizedLatentsConfig: "Search",
    config.TediganLatentsConfig: "Search",
    config.MappersConfig: "Mappers",
    config.EditedLatentsConfig: "Edits",
    config.EditDatasetConfig: "Edits",
    config.BalancePlanConfig: "Plan",
    config.ExportedDatasetConfig: "Export",
    config.GalleryConfig: "Gallery",
    config.DatasetConfig: "Images",
    config.ScoresConfig: "Scores",
    config.ReportConfig: "Report",
    config.ComparisonConfig: "Comparison",
    config.LatentsConfig: "Latents",
    config.ImportedLatentsConfig: "Latents",
    config.InvertedLatentsConfig: "Photos",
}
_BY_NAME = {
    **dict.fromkeys(("methods", "mode", "reference"), "Method"),
    "reuse_directions": "Directions",
    "mapper_latents": "Mappers",
    "doses": "Edits",
    "unreachable": "Scores",
    **dict.fromkeys(config.AcceptRules.model_fields, "Accepted"),
    **dict.fromkeys(("device", "workers", "runner", "runner_address", "tries"), WORK),
}


def group_of(parameter: Parameter) -> str:
    """The group that a parameter stands in; how many things are worked on at a time is always ``Work``."""
    if parameter.required:
        return RUN
    if parameter.name.endswith(("_per_shard", "batch_size")):
        return WORK
    if parameter.name in _BY_NAME:
        return _BY_NAME[parameter.name]
    return RUN if parameter.owner is None else _OF_SETTINGS[parameter.owner]


def in_groups(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """By group, within a group as they come; those without a default before all, as in any signature."""
    return tuple(sorted(parameters, key=lambda p: (not p.required, GROUPS.index(group_of(p)))))
