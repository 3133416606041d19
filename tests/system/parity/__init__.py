"""Fakes answer as the servers that they stand for."""
