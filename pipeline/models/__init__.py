"""Networks: the StyleGAN2 generator and CLIP."""
