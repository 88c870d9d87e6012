"""What checks are made of: exercises and cases, limits on time and memory, comparison, verdicts."""
