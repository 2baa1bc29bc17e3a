"""Convolutions of small pictures as matrix products, for a U-Net whose deep levels hold most of its weights.

At batch 1 Stable Diffusion's deepest levels have 20 to 80 positions and kernels of up to 59 MB: reading the weights is
all the work. The convolution's own kernels share it out by position and channel, over a tenth of a GPU's processors; a
matrix product's also share out its long inner sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_POSITIONS = 640  # of all pictures of a batch; above, a convolution has enough to share out


class SmallConvolution(nn.Conv2d):
    """A convolution that is computed as a product where its output has few positions; its weights are the same."""

    @classmethod
    def take_over(cls, network: nn.Module) -> None:
        """Turn a network's convolutions of 3x3 into this class: where they are, with their weights."""
        for module in network.modules():
            if type(module) is nn.Conv2d and module.kernel_size == (3, 3) and module.padding == (1, 1):
                module.__class__ = cls

    def forward(self, x: Tensor) -> Tensor:
        batch, _, rows, columns = x.shape
        stride = self.stride[0]
        rows, columns = -(-rows // stride), -(-columns // stride)
        if batch * rows * columns > MAX_POSITIONS:
            return super().forward(x)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # [B, H + 2, W + 2, C]
        shifted = [
            padded[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
            for i in range(3)
            for j in range(3)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # [outputs, 9 * C], a view of channels-last weights
        return F.linear(torch.cat(shifted, dim=-1), weight, self.bias).permute(0, 3, 1, 2)
