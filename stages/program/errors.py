"""The exception for everything that a user can get wrong."""


class InputError(Exception):
    """A user's mistake, as one sentence: what is wrong, where, and what to do about it."""
