"""Section 124.1: an image classifier that says how sure it is, and when to ask a person."""
