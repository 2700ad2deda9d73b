"""Why a case does not reach the least ratio of its row: (part of the row's name, pattern of the case, reason). The first that
fits counts. Where nothing was measured to tell, it is the likeliest cause."""

import re

REASONS = [
    ("convolution, forward", r"w3 s2", "a stride of 2 leaves few output pixels for each weight, which comes from the third-level cache"),
    ("convolution, backward to input", r"n1 .*7x7", "weights that meet 49 pixels: packing them, which PyTorch's pass contains too, takes a "
                                                    "third of the time"),
    ("convolution, backward to input", r"w3 s2", "each of the four phases has one to four of the nine taps: short sums that begin and end often"),
    ("convolution, backward to input", r"n16 c32 112x112 -> 16 w1", "26 MB are written past the caches for 16 multiply-adds a number: memory is the limit, "
                                                                    "and by itself the same takes 1.42 ms"),
    ("convolution, backward to weights", r"c3 .*w3", "27 sums for each filter, in blocks of 14 numbers by one vector"),
    ("depthwise, forward", r"n1 c32 ", "memory is the limit of both"),
    ("convolution, ", r"n16 c64 56x56 -> 64 w1", "larger than the caches: 12.8 MB are read and as many written, for 32 multiply-adds a number"),
    ("convolution, backward to weights", r"c128 28x28 .*w1 s1|c\d+ (14x14|7x7) .*w1 s1", "the output gradients of neighbouring pixels lie a multiple of 2 or 4 KiB "
                                                                                     "apart and displace each other from the caches"),
    ("convolution, backward to weights", r"w1 s2", "every second pixel of few channels is read from memory: one to four cache lines, and a gap of as many"),
    ("convolution, backward to weights", r"w3 s2", "each pixel is read again for each of its taps, from the second-level cache"),
    ("depthwise, backward to input", r"s2", "each of the four phases has one to four of the nine taps, for a result of 4.8 MB"),
    ("softmax, ", r"softmax @ \d+x21x", "21 channels fill 1.3 vectors; in PyTorch's contiguous layout vectors run over pixels"),
    ("softmax, ", r"bn @ 1x", "few rows of many channels: putting the sums of the pieces together, in f64, weighs as much as the rows"),
    ("softmax, ", r"bn @", "larger than the caches: channels last, the statistics and the result need a pass over memory each, while in "
                           "PyTorch's contiguous layout a channel stays in the cache between the two"),
    ("softmax, ", r"@ \d+x6x", "6 channels fill less than a vector: each window's gradient is given away number by number"),
    ("softmax, ", r"pool|relu", "larger than the caches: memory is the limit, and PyTorch comes nearer to it"),
    ("inference", r"lenet5", "6 channels, and 6 filters in pairs, fill less than a vector; its pooling takes a fifth of the time"),
    ("inference", r"mobilenet", "1x1 convolutions of 24 filters fill one and a half vectors"),
    ("peak memory", r"resnet50", "activations in f32; `convnet train --recompute` takes less, at the price of a second forward pass"),
    ("start to first prediction", r".", "half of the time is the system's clearing of fresh memory, which by one thread took three times as long "
                                       "right after a peer's process had ended as by itself (245 and 76 ms with 1 image)"),
]


def reason(row, case):
    """The sentence for a case that falls short."""
    fitting = (sentence for part, pattern, sentence in REASONS if part in row and re.search(pattern, case))
    return next(fitting, "not known yet")
