"""Trains the networks: plain torch loops, one file per stage, carried by Ray Train."""
