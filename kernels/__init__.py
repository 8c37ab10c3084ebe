"""Pure tensor functions: a slow reference and a fast path for each, nothing but torch.

Every kernel takes ``impl``: ``"ref"`` is the literal equation, ``"fast"`` the form that is run in
production, ``"auto"`` picks the fast form wherever it applies. A ``"fast"`` that cannot run raises.
"""

from kernels.bias_act import LRELU_GAIN, bias_act
from kernels.channel_groups import ChannelGroups, correlated_channels
from kernels.channel_relevance import (
    ChannelDirection,
    channel_direction,
    count_channels,
    normalize_relevance,
    relevance,
    select_channels,
    threshold_for_count,
    unit_vectors,
    weigh_by_effect,
)
from kernels.direction_sums import DirectionSums
from kernels.exclusive_channels import exclusive_channels
from kernels.impl import Impl, check_impl
from kernels.matching_pursuit import matching_pursuit, pursuit_contest
from kernels.modulated_conv2d import modulated_conv2d, moved_modulated_conv2d
from kernels.polyphase import polyphase_conv2d, polyphase_weight, upsampling_conv2d
from kernels.probes import Probes, probe_rows
from kernels.resize import bicubic_matrix, resize_normalize
from kernels.running_moments import RunningMoments
from kernels.upfirdn2d import binomial_filter, upfirdn2d
from kernels.winograd import winograd_conv2d, winograd_taps

__version__ = "0.1.0"

__all__ = [
    "LRELU_GAIN",
    "Impl",
    "ChannelDirection",
    "ChannelGroups",
    "DirectionSums",
    "Probes",
    "RunningMoments",
    "bias_act",
    "bicubic_matrix",
    "binomial_filter",
    "channel_direction",
    "check_impl",
    "correlated_channels",
    "count_channels",
    "exclusive_channels",
    "matching_pursuit",
    "modulated_conv2d",
    "moved_modulated_conv2d",
    "normalize_relevance",
    "polyphase_conv2d",
    "polyphase_weight",
    "probe_rows",
    "pursuit_contest",
    "relevance",
    "resize_normalize",
    "select_channels",
    "threshold_for_count",
    "unit_vectors",
    "upfirdn2d",
    "upsampling_conv2d",
    "weigh_by_effect",
    "winograd_conv2d",
    "winograd_taps",
]
