"""The driver of every registry that speaks the OCI distribution specification.

How its requests are sent is in `worker.registries.http`.
"""
