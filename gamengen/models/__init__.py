"""Networks, noise schedule and sampler in plain torch; knows nothing of games, files or Ray."""
