"""Any file is accepted, or every mistake has its path and its message. No other error is raised."""

import copy

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.test_settings import WHOLE
from worker.config.settings import ConfigError, load

SAMPLE = yaml.safe_load(WHOLE)
ENVIRON = {"YC_TOKEN": "t1.token", "HOME": "/home/gc"}
WORDS = [
    "", "x", "14d", "0s", "30%", "5GiB", "-1", "0 3 * * *", "@daily", "* * * * * *", "re:(", "[a-", "a/b", "..", "~",
    "https://[", "http://a:b", "http://127.0.0.1:99999", "redis://[::1", "sqlite:///", "127.0.0.1:", "[::1]:80", "{}",
    "/etc", "é" * 300, "9" * 400, "dry-run", "delete", "yandex-container-registry", "crpvab5oob146rh73ilt", "Europe",
    "always", "kubernetes", "2026-11-20", "9999-12-31T23:59:59-23:59", "json://host", "mailto://a:b@c",
    "oci", "yandex-cloud-registry", "shop/**", "host:5000", "first_seen",
]  # fmt: skip
KEYS = [
    "file", "env", "keep", "delete", "tags", "per", "newest", "older_than", "all", "mode", "id", "rate", "settle", "<<",
    "name", "kind", "path", "url", "on", "repositories", "username", "anonymous", "untagged",
]  # fmt: skip
leaves = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.sampled_from(WORDS) | st.text()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)


def places(tree, way=()):
    """The ways to every value of a tree."""
    yield way
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, value in inner:
        yield from places(value, (*way, step))


def with_other(tree, way, value):
    if not way:
        return value
    changed = copy.copy(tree)
    changed[way[0]] = with_other(tree[way[0]], way[1:], value)
    return changed


PLACES = list(places(SAMPLE))


@settings(max_examples=300, deadline=None)  # a busy machine is no mistake
@given(st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=1, max_size=3))
def test_any_file_is_accepted_or_its_mistakes_are_reported(tmp_path_factory, changes):
    tree = SAMPLE
    for way, value in changes:
        if way in set(places(tree)):
            tree = with_other(tree, way, value)
    folder = tmp_path_factory.getbasetemp() / "anything"
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    (folder / "keys" / "sa.json").write_text("{}")
    (folder / "web-token").write_text("sesame")
    path = folder / "registry-gc.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True))
    try:
        loaded = load(path, environ=ENVIRON)
    except ConfigError as error:
        lines = error.lines
    else:
        lines = ()
        assert loaded.path == path
    assert all(line.startswith(f"{path}: ") and "pydantic" not in line for line in lines)
    assert [line for line in lines if not line.partition("; ")[2]] == []
    assert len(set(lines)) == len(lines)
