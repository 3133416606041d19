"""The servers that the suite is run with, by the name of their column."""

from collections.abc import Mapping

from tests.registries.contract.server import Server
from tests.registries.contract.servers.example import Example
from tests.registries.contract.servers.oci import DebianRegistry, Fake
from tests.registries.contract.servers.simulated import CloudRegistry, ContainerRegistry

SERVERS: Mapping[str, type[Server]] = {
    one.name: one for one in (ContainerRegistry, CloudRegistry, Fake, DebianRegistry, Example)
}
