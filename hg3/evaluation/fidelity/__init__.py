"""Is it true: what a release says about its columns, their pairs and their course, beside what real patients say."""
