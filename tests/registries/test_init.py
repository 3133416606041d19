"""A registry is opened by its kind, with the limiter and the memory of its caller; nothing is asked for yet."""

import subprocess
import sys
from typing import Any

import pytest

from tests.support.drivers import with_defaults
from worker.config.kinds import KINDS
from worker.config.settings import Credentials
from worker.registries import DRIVERS, open_limiter, open_registry
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import LocalLimiter
from worker.registries.interface import NoManifestCache

OCI = with_defaults(kind="oci", url="https://registry.invalid", credentials=Credentials(anonymous=True))
YANDEX = with_defaults(id="crp1", credentials=Credentials(metadata=True))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_driver_of_its_own(kind: str) -> None:
    settings = OCI if kind == "oci" else YANDEX.model_copy(update={"kind": kind})
    with open_registry(settings) as registry:
        assert type(registry).__module__ == DRIVERS[kind]
        assert registry.usage().requests == {}


def test_opens_a_registry_with_defaults_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setitem(DRIVERS, "of my own", lambda *arguments: given.append(arguments))
    own = OCI.model_copy(update={"kind": "of my own"})
    open_registry(own)
    ((settings, limiter, retries, manifests),) = given
    assert (settings, retries) == (own, Retries())
    assert isinstance(limiter, LocalLimiter)
    assert isinstance(manifests, NoManifestCache)


def test_opens_a_registry_with_the_caller_s_limiter_retries_and_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setitem(DRIVERS, "of my own", lambda *arguments: given.append(arguments))
    limiter, retries, manifests = LocalLimiter(1.0), Retries(attempts=1), NoManifestCache()
    open_registry(OCI.model_copy(update={"kind": "of my own"}), limiter, retries, manifests)
    assert given[0][1:] == (limiter, retries, manifests)


def test_connects_to_redis_on_the_first_wait_only() -> None:
    open_limiter("redis://registry.invalid:1/0", OCI).close()


def test_no_driver_is_loaded_before_a_registry_is_opened() -> None:
    heavy = "{'httpx', 'redis', 'worker.registries.http.transport', *worker.registries.DRIVERS.values()}"
    script = f"import sys, worker.registries; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"
