"""Weights that others trained: the layouts of official and diffusers checkpoints, DDPM and DDIM, the VAE, the hub."""
