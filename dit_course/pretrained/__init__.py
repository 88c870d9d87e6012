"""Weights that others trained: the layouts of official and diffusers checkpoints, DDPM and DDIM, the VAE, the Hub."""

from dit_course.pretrained.layouts import config_of_diffusers, config_of_official, load_diffusers, load_official

__all__ = ["config_of_diffusers", "config_of_official", "load_diffusers", "load_official"]
