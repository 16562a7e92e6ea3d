"""Is it safe: what an attacker who has a release learns of training patients, beside what of patients it never saw."""
