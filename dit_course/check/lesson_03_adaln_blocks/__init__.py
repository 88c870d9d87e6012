"""Exercises of lesson 03: adaLN blocks."""
