"""Settings of the stages: frozen, validated once, each field described. The hash of a config names a result."""

from pipeline.config.directions import (
    ChannelDirectionsConfig,
    ScreeningConfig,
    StyleDirectionsConfig,
    StyleStatisticsConfig,
    TrialsConfig,
)
from pipeline.config.edits import (
    EditedLatentsConfig,
    MappersConfig,
    OptimizedLatentsConfig,
    TediganLatentsConfig,
)
from pipeline.config.export import (
    AcceptRules,
    BalanceConfig,
    BalancePlanConfig,
    ExportedDatasetConfig,
    GalleryConfig,
)
from pipeline.config.images import (
    ComparisonConfig,
    DatasetConfig,
    EditDatasetConfig,
    ReportConfig,
    ScoresConfig,
)
from pipeline.config.latents import (
    ImageListingConfig,
    ImportedLatentsConfig,
    InvertedLatentsConfig,
    LatentsConfig,
)
from pipeline.config.settings import (
    ClipPreprocess,
    Precision,
    RelevanceLayers,
    Rounding,
    Rule,
    SelectionRule,
    StageConfig,
    recommended,
)

__all__ = [
    "AcceptRules",
    "BalanceConfig",
    "BalancePlanConfig",
    "ExportedDatasetConfig",
    "GalleryConfig",
    "ChannelDirectionsConfig",
    "ScreeningConfig",
    "StyleDirectionsConfig",
    "StyleStatisticsConfig",
    "TrialsConfig",
    "ClipPreprocess",
    "Precision",
    "RelevanceLayers",
    "Rounding",
    "Rule",
    "SelectionRule",
    "StageConfig",
    "recommended",
    "ComparisonConfig",
    "DatasetConfig",
    "EditDatasetConfig",
    "ReportConfig",
    "ScoresConfig",
    "EditedLatentsConfig",
    "MappersConfig",
    "OptimizedLatentsConfig",
    "TediganLatentsConfig",
    "ImageListingConfig",
    "ImportedLatentsConfig",
    "InvertedLatentsConfig",
    "LatentsConfig",
]
