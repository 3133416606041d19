"""Tells people and other programs how runs ended. Never delays a run.

What a run's outcome is, is decided in `worker.runs`.
"""
