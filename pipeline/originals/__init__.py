"""Fetching, generating and reading archives in the originals' own formats."""
