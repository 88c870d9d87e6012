"""Exercises of lesson 04: registers and the whole DiT."""
