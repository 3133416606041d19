"""Random histories on the in-memory registry."""
