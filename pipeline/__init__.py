"""The science of text-driven StyleGAN editing: prompts, StyleSpace, model packs, models and stages."""

__version__ = "0.1.0"
