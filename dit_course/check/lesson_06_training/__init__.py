"""Exercises of lesson 06: training."""
