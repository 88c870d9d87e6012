"""Exercises of lesson 12: probes, which are checks themselves."""
