"""Adam for many vectors in one call against one of torch's optimisers each."""

import torch

from pipeline.optimization.adam import AdamMoments, adam_step


def test_adam_step_is_to_the_bit_what_an_optimiser_each_does():
    rng = torch.Generator().manual_seed(0)
    starts = [torch.randn(size, generator=rng) for size in (1, 7, 512, 4097)]
    ours, theirs = ([x.clone().requires_grad_() for x in starts] for _ in range(2))
    moments = [AdamMoments.of(x) for x in ours]
    optimisers = [torch.optim.Adam([x], fused=True) for x in theirs]
    for step in range(7):
        rate = 0.1 * (step + 1)
        going = [i for i in range(len(ours)) if (step + i) % 3]  # each has a step count of its own
        gradients = [torch.randn(ours[i].shape, generator=rng) for i in going]
        adam_step([ours[i] for i in going], gradients, [moments[i] for i in going], rate=rate)
        for i, gradient in zip(going, gradients, strict=True):
            theirs[i].grad = gradient
            optimisers[i].param_groups[0]["lr"] = rate
            optimisers[i].step()
    for got, want, start in zip(ours, theirs, starts, strict=True):
        assert torch.equal(got, want)
        assert not torch.equal(got, start)
