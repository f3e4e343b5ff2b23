"""What the pipeline costs, beside what else costs as much."""
