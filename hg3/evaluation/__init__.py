"""Evaluation: two tables and a schema in, numbers with their ceilings out. It never sees a model."""
