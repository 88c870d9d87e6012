"""For those who write lessons: learners' notebooks are derived from the authors'."""
