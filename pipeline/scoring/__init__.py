"""Scores of edits: what a prompt wants, what a judge sees before and after, and how methods compare."""
