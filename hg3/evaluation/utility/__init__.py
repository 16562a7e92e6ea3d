"""Is it of use: what users will learn from a release, beside what they would learn from as many real patients."""
