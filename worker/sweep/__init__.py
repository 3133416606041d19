"""Carries plans out: rechecks a repository, deletes images, records outcomes, verifies.

The one room that deletes.
"""
