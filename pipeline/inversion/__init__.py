"""Images to latents: intake, alignment, encoder, refinement, and back into the photo."""
