"""Tables of patients: schema, checks, transforms, encoding there and back."""
