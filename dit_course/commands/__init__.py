"""The command line, one module a verb; each command is a typed dataclass, from which tyro makes the flags."""
