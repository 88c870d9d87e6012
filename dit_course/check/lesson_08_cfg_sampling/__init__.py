"""Exercises of lesson 08: solvers, guidance, sampling."""
