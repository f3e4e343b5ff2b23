"""Advice on a set, from what `features` has stored of it: which strategy it calls for, and which pictures are odd."""
