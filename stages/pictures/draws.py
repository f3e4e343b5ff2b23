"""The random numbers of many pictures at once: those that NumPy's generators, seeded one by one, would give.

`np.random.default_rng` takes some 20 microseconds to seed, all of it under Python's lock: for the views of a batch of
256, more than a GPU takes for the network. Here each of its steps is done for all pictures: NumPy's SeedSequence, after
O'Neill's seed_seq_fe (2015, "Simple Portable C++ Seed Entropy"), and PCG64 (O'Neill 2014, HMC-CS-2014-0905), XSL-RR.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEW = 32  # draws: fewer are done one by one, in less time
POOL = 4  # words of SeedSequence's state
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # of PCG64
LOW = (1 << 32) - 1

Words = NDArray[np.uint32]
Numbers = NDArray[np.uint64]
Wide = tuple[Numbers, Numbers]  # numbers of 128 bits: the upper and the lower half


def uniform(draws: Sequence[tuple[int, ...]], n: int) -> NDArray[np.float64]:
    """Return what `np.random.default_rng(draw).random(n)` returns for each of the draws, (draws, n)."""
    seeds = [b"".join(map(_words, draw)) for draw in draws]
    if len(draws) < FEW or len({*map(len, seeds)}) > 1:
        return np.stack([np.random.default_rng(draw).random(n) for draw in draws])
    entropy = np.frombuffer(b"".join(seeds), "<u4").reshape(len(seeds), -1).T.astype(np.uint32)
    high, low, sequence_high, sequence_low = _seeds(entropy)
    increment = (
        (sequence_high << np.uint64(1)) | (sequence_low >> np.uint64(63)),
        (sequence_low << np.uint64(1)) | np.uint64(1),
    )
    state = _step(_add(increment, (high, low)), increment)
    columns = []
    for _ in range(n):
        state = _step(state, increment)
        columns.append((_output(state) >> np.uint64(11)) * 2.0**-53)
    return np.stack(columns, axis=1)


def _words(number: int) -> bytes:
    """Return a number's words of 32 bits, the lowest first, as SeedSequence takes it apart."""
    return number.to_bytes(4 * max(1, -(-number.bit_length() // 32)), "little")


def _seeds(entropy: Words) -> list[Numbers]:
    """Return the four words of 64 bits that SeedSequence makes of entropy, uint32 (words, draws)."""
    factor, multiplier = 0x43B0D7E5, 0x931E8875

    def hashed(value: Words) -> Words:
        nonlocal factor
        value = value ^ np.uint32(factor)
        factor = factor * multiplier & LOW
        value = value * np.uint32(factor)
        value ^= value >> np.uint32(16)
        return value

    def mixed(one: Words, other: Words) -> Words:
        result: Words = np.uint32(0xCA01F9DD) * one - np.uint32(0x4973F715) * other
        result ^= result >> np.uint32(16)
        return result

    zeros = np.zeros_like(entropy[0])
    pool = [hashed(entropy[i] if i < len(entropy) else zeros) for i in range(POOL)]
    for source in range(POOL):
        for target in range(POOL):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for word in entropy[POOL:]:
        pool = [mixed(one, hashed(word)) for one in pool]
    factor, multiplier = 0x8B51F9DD, 0x58F38DED
    words = [hashed(pool[i % POOL]).astype(np.uint64) for i in range(8)]
    return [low | high << np.uint64(32) for low, high in zip(words[::2], words[1::2], strict=True)]


def _step(state: Wide, increment: Wide) -> Wide:
    """Return the next state: the state times MULTIPLIER plus the increment, modulo 2^128."""
    (high, low), shift, mask = state, np.uint64(32), np.uint64(LOW)
    factor_high, factor_low = np.uint64(MULTIPLIER >> 64), np.uint64(MULTIPLIER & (1 << 64) - 1)
    upper, lower = factor_low >> shift, factor_low & mask
    cross = (low >> shift) * lower + ((low & mask) * lower >> shift)
    middle = (low & mask) * upper + (cross & mask)
    product = (low >> shift) * upper + (cross >> shift) + (middle >> shift) + high * factor_low + low * factor_high
    return _add((product, low * factor_low), increment)


def _add(one: Wide, other: Wide) -> Wide:
    low = one[1] + other[1]
    return one[0] + other[0] + (low < one[1]).astype(np.uint64), low


def _output(state: Wide) -> Numbers:
    """Return a state's halves, one xor the other, rotated by its six highest bits."""
    high, low = state
    mixed: Numbers = high ^ low
    by: Numbers = high >> np.uint64(58)
    rotated: Numbers = (mixed >> by) | (mixed << (np.uint64(64) - by & np.uint64(63)))
    return rotated
