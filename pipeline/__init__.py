"""The science of text-driven StyleGAN editing: prompts, StyleSpace, model packs, models and stages."""

import os

# Feature maps come and go by the 10 MB; in pages of 4 KiB Linux maps and zeroes them anew for a third of a backward
# pass. With this torch asks for huge pages; it looks once, before the first tensor. THP_MEM_ALLOC_ENABLE=0 says no.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
