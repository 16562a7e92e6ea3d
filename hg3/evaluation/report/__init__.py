"""The report of an evaluation: one page that says what was found, and pictures to see it."""
