"""What stages hand to each other on disk: whole files or none, cards, stored splits, predictions, checkpoints."""
