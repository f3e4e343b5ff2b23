"""A set of drawn ants and bees, for where no photographs can be fetched."""
