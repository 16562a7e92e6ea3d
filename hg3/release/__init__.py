"""Releases: written part by part, whole or absent, verifiable against their own sums and against the run."""
