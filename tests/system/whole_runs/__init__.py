"""Whole runs with real processes and servers."""
