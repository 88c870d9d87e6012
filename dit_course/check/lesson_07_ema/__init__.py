"""Exercises of lesson 07: EMA."""
