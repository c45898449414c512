"""Drawn pictures with exact labels, for archives in miniature."""
