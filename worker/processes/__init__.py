"""Starts and supervises the processes of one machine, and its own Redis."""
