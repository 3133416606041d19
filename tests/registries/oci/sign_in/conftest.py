"""Drivers that ask each thing once, and no proxies, as in the tests of the network."""

from tests.registries.http.network.conftest import _no_proxies, opened, plain

__all__ = ["_no_proxies", "opened", "plain"]
