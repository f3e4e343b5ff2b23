"""Training: a convex head on stored features, or the upper layers by epochs."""
