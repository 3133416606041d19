"""The servers that the suite is run with, by the name of their column."""

from collections.abc import Mapping

from tests.registries.interface.server import Server
from tests.registries.interface.servers.example import Example
from tests.registries.interface.servers.oci import DebianRegistry, Fake
from tests.registries.interface.servers.simulated import CloudRegistry, ContainerRegistry

SERVERS: Mapping[str, type[Server]] = {
    server.name: server for server in (ContainerRegistry, CloudRegistry, Fake, DebianRegistry, Example)
}
