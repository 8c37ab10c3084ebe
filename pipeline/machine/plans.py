"""Which plan a generator renders by: chosen by device and precision, prepared once, used by every stage."""

from threading import Lock
from weakref import WeakKeyDictionary

import torch

from pipeline.config import Precision
from pipeline.machine.precision import check_precision
from pipeline.models.clip import Clip
from pipeline.models.generator_delta import TunedGenerator
from pipeline.models.polyphase_plan import PolyphasePlan
from pipeline.models.render_graphs import RenderGraphs
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import DirectPlan, SynthesisPlan, transformed_taps

_Stamp = tuple[tuple[int, int], ...]
_kept: WeakKeyDictionary[Generator, dict[Precision, tuple[_Stamp, PolyphasePlan]]] = WeakKeyDictionary()
_preparing = Lock()


def synthesis_plan(generator: Generator, precision: Precision = "full", *, winograd: bool = False) -> SynthesisPlan:
    """The generator's plan for its device.

    On a CPU, and of a generator tuned to one image, the modules as they are. On CUDA ``prepared_plan``, in half
    precision where asked for.

    Args:
        generator: on the device where it is to run.
        precision: of features and weights; ``tf32`` prepares as ``full`` does and differs by ``held_precision``.
        winograd: let a CPU take its faster convolutions, off by up to 1e-4 and without gradients, for measuring.
    Raises:
        PipelineError: if the device does not have the precision.
    """
    device = generator.mapping.w_avg.device
    check_precision(precision, device)
    if device.type == "cuda" and not isinstance(generator, TunedGenerator):
        return prepared_plan(generator, precision)
    return DirectPlan(generator.synthesis, taps=transformed_taps(generator.synthesis) if winograd else {})


def prepared_plan(generator: Generator, precision: Precision) -> PolyphasePlan:
    """The generator's polyphase plan: made the first time, and again once its weights have changed or moved.

    Each precision has one of its own: what is compiled or recorded is made for the convolutions of that precision.
    """
    with _preparing:
        plans, stamp = _kept.setdefault(generator, {}), _stamp(generator)
        if precision not in plans or plans[precision][0] != stamp:
            plan = PolyphasePlan(
                generator.synthesis,
                half=torch.float16 if precision == "half" else None,
                backend=None if precision == "full" else "inductor",  # compiled for cuDNN, which full does without
                graphs=RenderGraphs(generator.mapping.w_avg.device),
            )
            plans[precision] = (stamp, plan)
        return plans[precision][1]


def clip_for(clip: Clip, precision: Precision) -> Clip:
    """CLIP with its image tower in half precision where that is asked for."""
    return clip.in_half() if precision == "half" else clip


def _stamp(generator: Generator) -> _Stamp:
    """Where the weights lie and how often they were written to."""
    return tuple((x.data_ptr(), x._version) for x in generator.synthesis.state_dict(keep_vars=True).values())
