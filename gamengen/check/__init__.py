"""Checks an installation for real: `gamengen check`. Nothing is downloaded, nothing is left behind."""
