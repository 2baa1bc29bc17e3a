"""Turn a game into a neural network that can be played."""

__version__ = "0.1.0"
