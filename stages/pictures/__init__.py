"""Decode picture files, and turn them into the views that a network sees."""
