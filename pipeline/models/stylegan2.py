"""StyleGAN2's generator (Karras et al. 2020), any power-of-two resolution, z, w, w_plus and styles accepted.

State names follow NVlabs' PyTorch code (``mapping.fc0.weight``, ``synthesis.b8.conv0.affine.bias``), so that a
foreign checkpoint maps onto ours name by name. Letters: n sample, s style channels, l rows of w_plus, d w_dim.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.models.synthesis import FullyConnected, GeneratorConfig, Synthesis
from pipeline.models.synthesis_plan import Activations, DirectPlan, SynthesisPlan

MAPPING_LR_MULTIPLIER = 0.01  # Karras et al. 2019, appendix C
Z_NORM_EPS = 1e-8


class MappingNetwork(nn.Module):
    """z to w: normalise z to unit second moment, then fully connected layers; keeps the mean of w."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        hidden = config.mapping_dim or config.w_dim
        widths = [config.z_dim] + [hidden] * (config.mapping_layers - 1) + [config.w_dim]
        self.num_layers = config.mapping_layers
        for i in range(self.num_layers):
            layer = FullyConnected(widths[i], widths[i + 1], lr=MAPPING_LR_MULTIPLIER, act=True)
            self.add_module(f"fc{i}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Float[Tensor, "n z"]) -> Float[Tensor, "n d"]:
        """[n, z_dim] to [n, w_dim], before any truncation."""
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + Z_NORM_EPS)
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x


class Generator(nn.Module):
    """StyleGAN2 generator.

    Images are [n, 3, resolution, resolution], about [-1, 1], not clamped. Noise is the stored constant noise, so
    the same styles always give the same image.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.space = config.style_space
        self.mapping = MappingNetwork(config)
        self.synthesis = Synthesis(config)

    def map(self, z: Float[Tensor, "n z"], *, psi: float = 1.0, cutoff: int | None = None) -> Float[Tensor, "n l d"]:
        """Z to w_plus.

        Args:
            z: standard normal, [n, z_dim].
            psi: truncation, ``w = w_avg + psi * (w - w_avg)``; 1 leaves w, 0 gives the mean face.
            cutoff: truncate only the first ``cutoff`` rows of w_plus; None means all.
        Returns:
            [n, num_ws, w_dim].
        Raises:
            ValueError: if z is not [n, z_dim] or the cutoff is out of range.
        """
        if z.ndim != 2 or z.shape[1] != self.config.z_dim:
            raise ValueError(f"z must be [n, {self.config.z_dim}]; got {tuple(z.shape)}.")
        if cutoff is not None and not 0 <= cutoff <= self.space.num_ws:
            raise ValueError(f"`cutoff` must be in [0, {self.space.num_ws}] or None; got {cutoff}.")
        w = self.mapping(z)[:, None, :].repeat(1, self.space.num_ws, 1)
        if psi == 1.0:
            return w
        truncated = self.mapping.w_avg + psi * (w - self.mapping.w_avg)
        rows = torch.arange(self.space.num_ws, device=w.device) < (self.space.num_ws if cutoff is None else cutoff)
        return torch.where(rows[None, :, None], truncated, w)

    def styles(self, w: Float[Tensor, "n l d"] | Float[Tensor, "n d"]) -> Float[Tensor, "n s"]:
        """W or w_plus to style vectors: each layer's raw affine output, before any gain.

        Raises:
            ValueError: if the shape is neither [n, w_dim] nor [n, num_ws, w_dim].
        """
        if w.ndim == 2:
            w = w[:, None, :].expand(-1, self.space.num_ws, -1)
        if w.ndim != 3 or w.shape[1:] != (self.space.num_ws, self.config.w_dim):
            raise ValueError(
                f"w must be [n, {self.config.w_dim}] or [n, {self.space.num_ws}, {self.config.w_dim}]; "
                f"got {tuple(w.shape)}. A [num_ws, w_dim] latent needs a leading batch axis."
            )
        parts = [self.synthesis.layer(x.index).affine(w[:, x.w_index]) for x in self.space.layers]
        return torch.cat(parts, dim=1)

    def activations(
        self,
        styles: Float[Tensor, "n s"],
        layer: int,
        *,
        since: Activations | None = None,
        plan: SynthesisPlan | None = None,
    ) -> Activations:
        """What reaches ``layer``: everything below it, computed once and kept.

        Args:
            styles: style vectors.
            layer: 0 to the number of layers.
            since: activations at a lower layer of the same styles, to go on from; of the same plan.
            plan: how the layers are computed; None runs the modules as they are.
        Raises:
            ValueError: if ``layer`` is below that of ``since`` or above the number of layers.
        """
        plan = plan or DirectPlan(self.synthesis)
        state = since or plan.start(styles.shape[0])
        if not state.layer <= layer <= len(self.space.layers):
            raise ValueError(f"`layer` must be in [{state.layer}, {len(self.space.layers)}]; got {layer}.")
        return plan.run(state, self.space.split(styles), stop=layer)

    def sums(
        self, styles: Float[Tensor, "n s"], below: Activations, *, plan: SynthesisPlan | None = None
    ) -> Float[Tensor, "n o h w"] | None:
        """What ``moved_activations`` needs of unmoved samples; None for layers where it does not pay."""
        layer = self.space.layers[below.layer]
        return (plan or DirectPlan(self.synthesis)).sums(below, styles[:, layer.slice])

    def moved_activations(
        self,
        styles: Float[Tensor, "n s"],
        below: Activations,
        sums: Float[Tensor, "n o h w"],
        *,
        position: int,
        moves: Sequence[float],
        plan: SynthesisPlan | None = None,
    ) -> Activations:
        """What reaches the layer above a channel for every sample with the first move, then with the second, ...

        Args:
            styles: unmoved.
            below: what reaches the channel's layer.
            sums: ``self.sums(styles, below)``.
            position: of the channel in the style vector.
            moves: numbers added to it.
            plan: that of ``sums``.
        """
        layer = self.space.layers[below.layer]
        plan = plan or DirectPlan(self.synthesis)
        return plan.moved(below, sums, styles[:, layer.slice], channel=position - layer.offset, moves=moves)

    def render(
        self,
        styles: Float[Tensor, "n s"],
        *,
        since: Activations | None = None,
        plan: SynthesisPlan | None = None,
    ) -> Float[Tensor, "n 3 r r"]:
        """Style vectors to images.

        Args:
            styles: [n, num_channels].
            since: activations to start from, of the same plan; the styles of lower layers are then not looked at. With
                fewer samples than styles, row r starts from sample r modulo their number.
            plan: how the layers are computed; None runs the modules as they are.
        Returns:
            images, about [-1, 1].
        """
        plan = plan or DirectPlan(self.synthesis)
        return plan.images(since or plan.start(styles.shape[0]), self.space.split(styles))

    def forward(self, w: Float[Tensor, "n l d"] | Float[Tensor, "n d"]) -> Float[Tensor, "n 3 r r"]:
        """W or w_plus to images."""
        return self.render(self.styles(w))
