"""Exercises of lesson 05: the flow-matching loss."""
