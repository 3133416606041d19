"""Whole nights with real processes and servers."""
