"""The inputs of every measurement, and the sample by which results are compared: the formula of `convnet bench --help`."""

import numpy as np

SAMPLE = 16


def values(stream, shape):
    """Numbers in [-1/2, 1/2) of this shape: the same bits that convnet makes."""
    count = int(np.prod(shape))
    mixed = np.arange(count, dtype=np.uint32)
    mixed *= np.uint32(0x9E3779B1)
    mixed += np.uint32(stream * 0x85EBCA77 % 2**32)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    mixed *= np.uint32(0x297A2D39)
    mixed ^= mixed >> np.uint32(15)
    mixed >>= np.uint32(8)
    numbers = mixed.astype(np.float32)
    numbers *= np.float32(2.0**-24)
    numbers -= np.float32(0.5)
    return numbers.reshape(shape)


def around_one(stream, shape):
    """A parameter that begins above 0, such as the scale of a batch norm."""
    return np.float32(1) + values(stream, shape) / np.float32(2)


def sample_places(count):
    """Where the numbers of a sample stand in logical order."""
    return [place * (count - 1) // (SAMPLE - 1) for place in range(SAMPLE)]


def sample(array):
    """16 evenly spaced numbers of an array in logical order."""
    flat = np.asarray(array).reshape(-1)
    return [float(flat[place]) for place in sample_places(flat.size)]


def difference(found, expected):
    """The largest difference of two samples, relative to the largest number."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
