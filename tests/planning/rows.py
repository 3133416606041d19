"""A registry with given rows, or with an error instead of a list."""

from collections.abc import Iterable, Iterator, Mapping

from policies.image import Image
from worker.registries.errors import RegistryError
from worker.registries.interface import Registry


class Rows(Registry):
    """Repositories by path: their images, or the error that listing them ends in."""

    def __init__(self, repositories: Mapping[str, Iterable[Image] | RegistryError]) -> None:
        self._repositories = repositories

    def repositories(self) -> Iterator[str]:
        return iter(sorted(self._repositories))

    def images(self, repository: str) -> tuple[Image, ...]:
        content = self._repositories[repository]
        if isinstance(content, RegistryError):
            raise content
        return tuple(content)
