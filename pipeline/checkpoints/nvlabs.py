"""Generators of NVlabs' pickles: stylegan2-ada-pytorch, stylegan3's StyleGAN2 classes, and the TensorFlow era.

PyTorch pickles hold ``{"G", "D", "G_ema", ...}`` with every module a persistence record, of which only the state is
read. TensorFlow pickles hold the tuple (G, D, Gs) of ``dnnlib.tflib.network.Network``.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kernels import binomial_filter
from pipeline.checkpoints.foreign_tensor import SourceTensor
from pipeline.checkpoints.generator_state import ImportedGenerator, Parity, assemble_generator
from pipeline.checkpoints.pickle_globals import Stub, as_tensor
from pipeline.errors import CheckpointError
from pipeline.models.stylegan2 import MAPPING_LR_MULTIPLIER, Z_NORM_EPS

DEEPEST = 20  # modules within modules
VARIANTS = (  # modules by path, and what they must have been built with
    (r"synthesis\.b\d+", "architecture", "skip"),
    (r"mapping\.fc\d+|synthesis\.b\d+\.conv[01]", "activation", "lrelu"),
)
LARGEST_HALF = 12  # resolutions in half precision; there are no more
TF_VERSION = 4  # first version of the pickled networks that StyleGAN2 uses
TF_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}
TF_FIELDS = {
    "weight": "weight",
    "bias": "bias",
    "mod_weight": "affine.weight",
    "mod_bias": "affine.bias",
    "noise_strength": "noise_strength",
}


def read_nvlabs(tree: Any, *, source: str, label: int | None = None, parity: Parity | None = None) -> ImportedGenerator:
    """The generator (``G_ema`` or ``Gs``) of an unpickled NVlabs file.

    Args:
        tree: from ``read_foreign_file``.
        source: name of the file, for messages.
        label: class of a class-conditional generator. The label enters the mapping as a constant, which is folded
            into its first layer, so what comes out is an ordinary generator of that class.
        parity: what of the file's settings is kept. None: conv_clamp, which is part of the network (without it an image
            is another where activations pass it); ``"nvlabs"``: the half-precision layers too; ``"none"``: neither.
    Raises:
        CheckpointError: if it is no such file or a variant that is not supported.
    """
    if isinstance(tree, tuple | list):
        return _read_tensorflow(tree, source=source, label=label, parity=parity)
    root = tree.get("G_ema", tree.get("G")) if isinstance(tree, dict) else tree
    if isinstance(root, dict) and "synthesis.b4.const" in root:  # our own export: the state and the arguments
        root = _as_modules(root, tree.get("init_kwargs") if isinstance(tree, dict) else None)
    if not isinstance(root, Stub):
        keys = ", ".join(str(k) for k in list(tree)[:6]) if isinstance(tree, dict) else type(tree).__name__
        raise CheckpointError(f"{source}: an NVlabs pickle must hold G_ema; got {keys}. Try another --format.")
    modules = dict(_modules(root, ""))
    _check_variant(modules, source)
    tensors = _tensors(modules)
    settings = _settings(modules)
    if "mapping.embed.weight" in tensors or label is not None:
        tensors = _fold_label(tensors, label=label, source=source)
        settings["label"] = label
    _check_filters(tensors, source)
    tensors = _rescale_mapping(tensors, modules)
    settings["parity"] = parity
    return assemble_generator(
        tensors,
        source=source,
        conv_clamp=None if parity == "none" else settings["conv_clamp"],
        num_fp16_res=settings["num_fp16_res"] if parity == "nvlabs" else 0,
        notes=settings,
    )


# ------------------------------------------------------------------ persistence records


def _modules(stub: Stub, path: str, depth: int = 0) -> Iterator[tuple[str, Stub]]:
    """A module and all below it, by dotted path."""
    yield path, stub
    children = stub.state.get("_modules") or {}
    if depth > DEEPEST or not isinstance(children, dict):
        raise CheckpointError(f"a module must hold modules by name, at most {DEEPEST} deep; got more at {path!r}.")
    for name, child in children.items():
        if isinstance(child, Stub):
            yield from _modules(child, f"{path}.{name}" if path else str(name), depth + 1)


def _as_modules(state: Mapping[Any, Any], arguments: Any) -> Stub:
    """A state dict by dotted names as the modules that a pickle would hold."""
    top = Stub("Generator", {"_init_kwargs": arguments})
    for key, value in state.items():
        *path, name = str(key).split(".")[:DEEPEST]
        stub = top
        for part in path:
            stub = stub.state.setdefault("_modules", {}).setdefault(part, Stub("Module"))
        stub.state.setdefault("_buffers", {})[name] = value
    return top


def _tensors(modules: Mapping[str, Stub]) -> dict[str, SourceTensor]:
    found = {}
    for path, stub in modules.items():
        for group in ("_parameters", "_buffers"):
            entries = stub.state.get(group) or {}
            for name, value in (entries if isinstance(entries, dict) else {}).items():
                key = f"{path}.{name}" if path else str(name)
                tensor = as_tensor(value)
                if tensor is not None:
                    found[key] = SourceTensor.of(key, tensor)
    return found


def _check_variant(modules: Mapping[str, Stub], source: str) -> None:
    """Refuse, with the reason, what looks like StyleGAN2 but is not."""
    if "synthesis.input" in modules:
        raise CheckpointError(
            f"{source}: is a StyleGAN3 (alias-free) generator, which is another network. Only StyleGAN2 is supported."
        )
    if "b4" in modules or any(path.startswith("synthesis.b4.fromrgb") for path in modules):
        raise CheckpointError(f"{source}: is a discriminator. Import the pickle's G_ema.")
    if "mapping" not in modules or "synthesis" not in modules:
        raise CheckpointError(
            f"{source}: a generator must have a mapping and a synthesis network; "
            f"got {', '.join(list(modules)[1:5]) or 'no module'}. It is of another architecture."
        )
    for path, stub in modules.items():
        for pattern, setting, wanted in VARIANTS:
            got = stub.state.get(setting)
            if re.fullmatch(pattern, path) and isinstance(got, str) and got != wanted:
                raise CheckpointError(
                    f"{source}: {setting} of {path} must be {wanted!r}; got {got[:40]!r}. "
                    f"This variant of StyleGAN2 is not supported."
                )


def _settings(modules: Mapping[str, Stub]) -> dict[str, Any]:
    """conv_clamp and the number of half-precision resolutions, as the layers recorded them."""
    clamps = [stub.state.get("conv_clamp") for stub in modules.values()]
    half = sum(stub.state.get("use_fp16") is True for stub in modules.values())
    recorded = _flat(modules[""].state.get("_init_kwargs"))
    numbers = [float(x) for x in (*clamps, recorded.get("conv_clamp")) if isinstance(x, int | float) and x > 0]
    asked = recorded.get("num_fp16_res")
    if not half and isinstance(asked, int):
        half = min(max(asked, 0), len(modules))
    return {
        "conv_clamp": numbers[0] if numbers else None,
        "num_fp16_res": half,
        "class_name": modules[""].kind[:80],
    }


def _flat(arguments: Any) -> dict[str, Any]:
    """Recorded arguments with the nested ones (``synthesis_kwargs``, ``block_kwargs``) beside the others."""
    if not isinstance(arguments, dict):
        return {}
    nested = [v for k, v in arguments.items() if k in ("synthesis_kwargs", "block_kwargs") and isinstance(v, dict)]
    return {**{k: v for part in nested for k, v in part.items()}, **arguments}


def _rescale_mapping(tensors: dict[str, SourceTensor], modules: Mapping[str, Stub]) -> dict[str, SourceTensor]:
    """Bring a mapping of another learning rate multiplier to ours: stored weights are ``1 / multiplier`` as large."""
    out = dict(tensors)
    for path, stub in modules.items():
        rate = stub.state.get("bias_gain")
        if not re.fullmatch(r"mapping\.fc\d+", path) or not isinstance(rate, int | float):
            continue
        if not 0 < rate < math.inf:
            raise CheckpointError(f"the learning rate multiplier of {path} must be positive; got {rate}.")
        factor = rate / MAPPING_LR_MULTIPLIER
        if abs(factor - 1) > 1e-6:
            for name in (f"{path}.weight", f"{path}.bias"):
                if name in out:
                    out[name] = out[name].changed(out[name].shape, lambda t, f=factor: t.float() * f)
    return out


def _check_filters(tensors: Mapping[str, SourceTensor], source: str) -> None:
    """The networks' own low-pass filters must be ours, (1, 3, 3, 1): they are not copied."""
    taps = binomial_filter()
    wanted = torch.outer(taps, taps)
    for name, tensor in tensors.items():
        if name.endswith("resample_filter"):
            got = tensor.load().float() if tensor.shape in ((4,), (4, 4)) else None
            got = torch.outer(got, got) if got is not None and got.ndim == 1 else got
            if got is None or not torch.allclose(got, wanted, atol=1e-6):
                raise CheckpointError(
                    f"{source}: {tensor.key} must be the filter [1, 3, 3, 1] / 8; got another one, of shape "
                    f"{list(tensor.shape)}. Other filters are not supported."
                )


def _fold_label(tensors: dict[str, SourceTensor], *, label: int | None, source: str) -> dict[str, SourceTensor]:
    """Mapping of one class: with y the normalised embedding of the label, ``fc0([z, y]) = W_z z + (W_y y + b)``.

    fc0's weights are scaled by 1/sqrt(z_dim + w_dim) at run time and must be by 1/sqrt(z_dim) afterwards; the learning
    rate multiplier scales weights and bias alike and drops out.
    """
    embed = tensors.get("mapping.embed.weight")
    if embed is None:
        raise CheckpointError(f"{source}: `label` must not be given; the generator has no classes.")
    classes = embed.shape[1] if len(embed.shape) == 2 else 0
    if label is None or not 0 <= label < classes:
        got = "none was given" if label is None else f"got {label}"
        raise CheckpointError(
            f"{source}: is class-conditional with {classes} classes, and a pack holds one of them; {got}. "
            f"Choose one with --label 0 to --label {classes - 1}."
        )
    if "mapping.embed.bias" not in tensors or "mapping.fc0.weight" not in tensors or "mapping.fc0.bias" not in tensors:
        raise CheckpointError(f"{source}: a class embedding must have a bias and a first layer; one is missing.")
    if tensors["mapping.embed.bias"].shape != embed.shape[:1]:
        raise CheckpointError(f"{source}: the bias of mapping.embed must have {embed.shape[0]} numbers; it has not.")
    y = embed.load().float()[:, label] / math.sqrt(classes) + tensors["mapping.embed.bias"].load().float()
    y = y * torch.rsqrt(y.square().mean() + Z_NORM_EPS)
    first, bias = tensors["mapping.fc0.weight"], tensors["mapping.fc0.bias"]
    num_out, num_in = first.shape if len(first.shape) == 2 else (0, 0)
    z_dim = num_in - y.numel()
    if z_dim < 1:
        raise CheckpointError(
            f"{source}: mapping.fc0.weight must take z and an embedding of {y.numel()}; got {list(first.shape)}."
        )

    def weight_of_z(weight: Tensor) -> Tensor:
        return weight[:, :z_dim].float() * math.sqrt(z_dim / num_in)

    def bias_with_label(tensor: Tensor) -> Tensor:
        return tensor.float() + first.load().float()[:, z_dim:] @ y / math.sqrt(num_in)

    out = {name: tensor for name, tensor in tensors.items() if not name.startswith("mapping.embed.")}
    out["mapping.fc0.weight"] = first.changed((num_out, z_dim), weight_of_z)
    out["mapping.fc0.bias"] = bias.changed(bias.shape, bias_with_label)
    return out


# ------------------------------------------------------------------ TensorFlow


def _read_tensorflow(tree: Any, *, source: str, label: int | None, parity: Parity | None) -> ImportedGenerator:
    """Gs of a TensorFlow pickle; its layouts become NVlabs' PyTorch ones (facts of their own converter)."""
    networks = [x for x in tree if isinstance(x, Stub) and x.kind == "Network"]
    if len(tree) != 3 or len(networks) != 3:
        raise CheckpointError(f"{source}: a TensorFlow pickle must hold (G, D, Gs); got {len(tree)} other things.")
    generator = networks[2]
    version = generator.state.get("version")
    if type(version) is not int or version < TF_VERSION:
        raise CheckpointError(
            f"{source}: its networks must be of version {TF_VERSION} or later (StyleGAN2); got "
            f"{version if type(version) is int else 'none'}. StyleGAN and ProGAN pickles are not supported."
        )
    if label is not None:
        raise CheckpointError(f"{source}: `label` must not be given for a TensorFlow pickle.")
    arguments = _tensorflow_arguments(generator.state.get("static_kwargs"))
    _check_tensorflow(arguments, source)
    settings = _tensorflow_settings(arguments) | {"class_name": "tensorflow", "parity": parity}
    variables = dict(_variables(generator, "", source))
    tensors, unused = {}, []
    for key, tensor in variables.items():
        made = _from_tensorflow(key, tensor)
        if made is None:
            unused.append(key)
        else:
            tensors[made[0]] = made[1]
    known = [key for key in unused if key == "lod" or key.endswith("/lod")]
    conditional = [key for key in unused if "Label" in key]
    if conditional:
        raise CheckpointError(
            f"{source}: is class-conditional ({conditional[0]}), which is supported for PyTorch pickles only. "
            f"Convert it with stylegan3's legacy.py first."
        )
    if len(known) < len(unused):
        other = [key for key in unused if key not in known]
        raise CheckpointError(
            f"{source}: every variable must have a place in the network; {len(other)} have none: "
            f"{', '.join(other[:4])}. Only StyleGAN2's skip architecture is supported."
        )
    made = assemble_generator(
        tensors,
        source=source,
        conv_clamp=None if parity == "none" else settings["conv_clamp"],
        num_fp16_res=settings["num_fp16_res"] if parity == "nvlabs" else 0,
        notes=settings,
    )
    return ImportedGenerator(made.config, made.state, (*made.unused, *known), made.notes)


def _tensorflow_arguments(recorded: Any) -> dict[str, Any]:
    """Recorded arguments with those nested as ``synthesis_kwargs`` beside the others."""
    flat = recorded if isinstance(recorded, dict) else {}
    return {**flat, **_flat({k: v for k, v in flat.items() if k == "synthesis_kwargs"})}


def _tensorflow_settings(arguments: dict[str, Any]) -> dict[str, Any]:
    """conv_clamp and the number of half-precision resolutions; stylegan2 records neither, stylegan2-ada both."""
    clamp, half = arguments.get("conv_clamp"), arguments.get("num_fp16_res")
    return {
        "conv_clamp": float(clamp) if isinstance(clamp, int | float) and clamp > 0 else None,
        "num_fp16_res": min(half, LARGEST_HALF) if type(half) is int and half > 0 else 0,
    }


def _check_tensorflow(arguments: dict[str, Any], source: str) -> None:
    wanted = {"architecture": "skip", "nonlinearity": "lrelu", "resample_kernel": [1, 3, 3, 1], "mapping_lrmul": 0.01}
    for name, value in wanted.items():
        got = arguments.get(name)
        got = list(got) if isinstance(got, tuple) else got
        if isinstance(got, str | int | float | list) and got != value:
            raise CheckpointError(f"{source}: {name} must be {value!r}; it is another. This variant is not supported.")


def _variables(network: Stub, prefix: str, source: str, depth: int = 0) -> Iterator[tuple[str, SourceTensor]]:
    """All variables of a network and its components, by path."""
    variables, components = network.state.get("variables") or [], network.state.get("components") or {}
    if not isinstance(variables, list | tuple) or not isinstance(components, dict) or depth > DEEPEST:
        raise CheckpointError(f"{source}: a network must list its variables and components; it does not.")
    for pair in variables:
        name, tensor = (pair[0], as_tensor(pair[1])) if isinstance(pair, tuple) and len(pair) == 2 else (None, None)
        if isinstance(name, str) and tensor is not None:
            yield f"{prefix}{name}", SourceTensor.of(f"{prefix}{name}", tensor)
    for name, component in components.items():
        if isinstance(component, Stub):
            yield from _variables(component, f"{prefix}{name}/", source, depth + 1)


def _from_tensorflow(key: str, tensor: SourceTensor) -> tuple[str, SourceTensor] | None:
    """Our name and layout of a TensorFlow variable; None where there is none.

    Convolutions are [k, k, in, out] there and [out, in, k, k] here, upsampling ones flipped as well; matrices are
    transposed; the affine layers' bias has its 1 added at run time there and stored here.
    """
    if key == "dlatent_avg":
        return "mapping.w_avg", tensor
    if found := re.fullmatch(r"mapping/Dense(\d{1,2})/(weight|bias)", key):
        name = f"mapping.fc{int(found[1])}.{found[2]}"
        return name, _transposed(tensor) if found[2] == "weight" else tensor
    if key == "synthesis/4x4/Const/const":
        return "synthesis.b4.const", tensor.reshaped(*tensor.shape[1:])
    if found := re.fullmatch(r"synthesis/noise(\d{1,2})", key):
        index = int(found[1])
        block, layer = 2 ** ((index + 5) // 2), "conv0" if index % 2 else "conv1"
        return f"synthesis.b{block}.{layer}.noise_const", tensor.reshaped(*tensor.shape[2:])
    found = re.fullmatch(r"synthesis/(\d+)x\1/(Conv|Conv0_up|Conv1|ToRGB)/(\w+)", key)
    if not found or found[3] not in TF_FIELDS:
        return None
    name = f"synthesis.b{found[1]}.{TF_LAYERS[found[2]]}.{TF_FIELDS[found[3]]}"
    if found[3] == "weight":
        return name, _convolution(tensor, flip=found[2] == "Conv0_up")
    if found[3] == "mod_weight":
        return name, _transposed(tensor)
    if found[3] == "mod_bias":
        return name, tensor.changed(tensor.shape, lambda t: t.float() + 1)
    return name, tensor


def _transposed(tensor: SourceTensor) -> SourceTensor:
    return tensor.changed(tuple(reversed(tensor.shape)), lambda t: t.T) if len(tensor.shape) == 2 else tensor


def _convolution(tensor: SourceTensor, *, flip: bool) -> SourceTensor:
    if len(tensor.shape) != 4:
        return tensor
    shape = tuple(tensor.shape[i] for i in (3, 2, 0, 1))
    return tensor.changed(shape, lambda t: (t.flip(0, 1) if flip else t).permute(3, 2, 0, 1))
