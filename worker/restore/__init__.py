"""Puts deleted images back into registries that still have their blobs.

What is saved for that before a deletion is saved by `worker.sweep`.
"""
