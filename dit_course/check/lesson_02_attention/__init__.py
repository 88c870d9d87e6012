"""Exercises of lesson 02: attention."""
