"""The files that stages hand to each other: atomic writes, JSON, cards, stored splits, predictions, checkpoints."""
