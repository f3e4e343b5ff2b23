"""Picture files in, arrays out; and what happens to a picture before a network sees it."""
