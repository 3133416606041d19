"""Decides what of a registry goes and what stays, and why. Pure: no I/O, no clock, no network, no environment."""
