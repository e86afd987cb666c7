"""Numbers out of PCG64's raw stream, which NumPy promises to keep between versions.

NumPy's distributions, which may change, are left alone. Only the last bit of a logarithm might differ on
another processor.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]


def uniform(bits: np.random.PCG64, count: int) -> Floats:
    """Return `count` numbers in [0, 1)."""
    return (bits.random_raw(count) >> np.uint64(11)) * 2.0**-53


def below(bits: np.random.PCG64, count: int, limit: int | Integers) -> Integers:
    """Return `count` whole numbers from 0 to below `limit` (or to below each of `count` limits)."""
    return np.floor(uniform(bits, count) * limit).astype(np.int64)


def normal(bits: np.random.PCG64, count: int) -> Floats:
    """Return `count` standard normal numbers, by Box and Muller."""
    return np.sqrt(-2 * np.log(1 - uniform(bits, count))) * np.cos(2 * math.pi * uniform(bits, count))
