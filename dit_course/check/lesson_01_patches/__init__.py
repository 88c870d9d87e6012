"""Exercises of lesson 01: patches."""
