"""Everything between fork and the user's function."""
