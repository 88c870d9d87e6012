"""Exercises of lesson 11: average velocities, the targets of few-step students, and their sampler."""
