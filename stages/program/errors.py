"""The exception for everything that a user can get wrong, and what to tell it from."""

import mmap


class InputError(Exception):
    """A user's mistake, as one sentence: what is wrong, where, and what to do about it."""


def check_memory(n_bytes: int) -> None:
    """Find out whether it was for want of memory that something failed, or because it asked for nonsense.

    Raises:
        MemoryError: there are no `n_bytes` to be had.

    """
    try:
        mmap.mmap(-1, n_bytes).close()  # address space alone: nothing is written to it
    except (OSError, ValueError):
        raise MemoryError from None
