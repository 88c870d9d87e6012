"""Mutation testing of the checks: every solution is changed at every place, and no change may be called right.

    python tests/mutation/run.py --exercise RMSNorm --survivors

`programs` reads the solutions and compiles changed ones where a learner's cell would run. `probe` finds out which
expressions are tensors, modules or numbers. `operators` are the changes. `runner` gives the changed programs to the
checks, in a process of its own that may hang or die, and keeps the results. `equivalent.toml` lists the changes that do
no harm, with the reason.
"""
