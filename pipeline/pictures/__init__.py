"""Label maps of a user's own pictures, by any checkpoint."""
