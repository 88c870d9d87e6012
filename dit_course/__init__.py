"""Build a Diffusion Transformer by hand, in notebooks, and watch it draw."""
