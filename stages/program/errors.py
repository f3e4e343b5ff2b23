"""The error for everything that a user can get wrong."""


class InputError(Exception):
    """What was wrong, where, and what to do about it, in one sentence."""
