"""One process or many: who computes which rows of a batch, and how a training is configured (lesson 10)."""
