"""Simulated cohorts: stand-ins that hold no real patient."""
