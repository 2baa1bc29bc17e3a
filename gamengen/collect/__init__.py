"""Play is recorded here: an agent that learns (`agent`) and policies that only play (`rollouts`) fill `gameplay/`."""
