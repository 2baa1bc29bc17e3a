"""Recorded play on disk: chunks, frame codecs, and the windows that a model learns from. Knows nothing of Ray."""
