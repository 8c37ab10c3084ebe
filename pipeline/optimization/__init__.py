"""Whatever descends a loss: latents of single images, and the networks that edit any image."""
