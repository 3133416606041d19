"""Processes that are killed at every named point of a run."""
