"""Notifies people and other programs of the outcome of runs. Never delays a run.

`worker.runs` decides the outcome of a run.
"""
