"""Puts deleted images back into registries that still have their blobs."""
