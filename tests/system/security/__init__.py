"""Secrets are found nowhere after a night."""
