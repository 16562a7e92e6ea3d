"""Sampling: solvers as tables, the reverse step as one operator, patients in fixed blocks."""
