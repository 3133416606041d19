"""Carries plans out: rechecks a repository, deletes images, records outcomes, verifies.

Only `deletion` deletes.
"""
