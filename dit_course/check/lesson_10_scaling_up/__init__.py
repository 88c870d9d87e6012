"""Exercises of lesson 10: scaling up."""
