"""Mean and maximum pooling of pictures, fast enough for every frame: Pillow's `reduce` takes twice as long.

numpy is several times faster over long strided rows than over a last axis of 2 or 3, so rows are taken together first,
and then the bytes of neighbours apart.
"""

from __future__ import annotations

import numpy as np


def mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the rounded means of squares of factor x factor: uint8 [H, W, 3] to [H / factor, W / factor, 3].

    `factor` is at most 16, of which the sums fit into 16 bits; 1 returns the image itself.
    """
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    sums = np.add(image[0::factor], image[1::factor], dtype=np.uint16)
    for row in range(2, factor):
        sums += image[row::factor]
    neighbours = sums.reshape(-1, 3 * factor)
    means = np.empty((height * width, 3), np.uint8)
    for colour in range(3):
        total = neighbours[:, colour] + neighbours[:, colour + 3]
        for column in range(2, factor):
            total += neighbours[:, colour + 3 * column]
        total += factor * factor // 2
        total //= factor * factor
        means[:, colour] = total
    return means.reshape(height, width, 3)


def maximum(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the maxima of squares of factor x factor for every colour, of the same shapes as `mean`.

    It keeps lines of one pixel, such as the automap's, which a mean would lose.
    """
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    rows = np.maximum.reduce([image[row::factor] for row in range(factor)]).reshape(-1, 3 * factor)
    squares = np.empty((height * width, 3), np.uint8)
    for colour in range(3):
        squares[:, colour] = np.maximum.reduce([rows[:, colour + 3 * column] for column in range(factor)])
    return squares.reshape(height, width, 3)
