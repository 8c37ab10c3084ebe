"""Packs that ship with the project; each is a folder with a ``pack.json``."""
