"""The library behind the stages: it knows arrays, files and configs, and nothing of its callers."""
