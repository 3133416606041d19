"""Fixtures of a real registry, with and without its cache."""

from tests.support.oci.conftest import pusher, registry

__all__ = ["pusher", "registry"]
