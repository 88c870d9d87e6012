"""Exercises of lesson 09: evaluation."""
