"""The phase `evaluate`: a model against held-out play of the real game, as figures, a page and a film."""
