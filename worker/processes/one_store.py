"""One Redis serves one store: workers of two would take each other's bells, and sweep one registry side by side.

A living worker says in Redis which store is its own, again with each reconcile; who comes with another one refuses.
Two stores behind two Redis cannot see each other.
"""

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from worker.config.broker import NoRedisError, connect, redis_url
from worker.config.settings import SecretError
from worker.store import Store, StoreError, open_store
from worker.store.about import store_id

if TYPE_CHECKING:
    from worker.config.settings import Settings

KEY = "registry-gc:store"
ID = 36  # characters of a store's id
LONGEST = 300  # characters of what is told of a store

# Answers what is said there now, and for how many ms it still counts. ARGV: ours, its life in ms; a mark with our id is
# ours, whatever else it tells. A life of 0: only look.
CLAIM = """
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, 36) ~= string.sub(ARGV[1], 1, 36) then return {there, redis.call('PTTL', KEYS[1])} end
if ARGV[2] ~= '0' then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return {ARGV[1], ARGV[2]}
"""
GIVE_UP = "if string.sub(redis.call('GET', KEYS[1]) or '', 1, 36) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class OtherStoreError(Exception):
    """Workers of another store live behind the same Redis."""

    exit_code = 1

    def __init__(self, mine: str, theirs: str, seconds: int) -> None:
        super().__init__(
            f"workers of another store use this Redis: theirs is {theirs}, ours {mine}. Give them one store, or each"
            f" store a Redis of its own (another number at the end of its URL is enough); or stop those workers, and"
            f" start this one again after {seconds} s"
        )
        self.mine, self.theirs, self.seconds = mine, theirs, seconds


def claim(settings: "Settings", store: Store) -> None:
    """Say that this store is the one that this Redis serves. Raises OtherStoreError, StoreError.

    Nothing is said where Redis does not answer: then no bell can go astray either.
    """
    life = 3 * settings.timing.reconcile + timedelta(seconds=30)  # three lost bells, and a busy machine
    _ask(settings, store, round(life.total_seconds() * 1000))


def refuse_another(settings: "Settings", *, claiming: bool = False) -> None:
    """See whether workers of another store live behind this Redis. Raises OtherStoreError.

    A store that cannot be opened is no reason to refuse: without one nothing is done.
    """
    with suppress(StoreError):
        store = open_store(settings.store)
        try:
            claim(settings, store) if claiming else _ask(settings, store, 0)
        finally:
            store.dispose()


def _ask(settings: "Settings", store: Store, life: int) -> None:
    from redis.exceptions import RedisError  # noqa: PLC0415 - redis is loaded only where it is used

    with store.write() as connection:
        mine = f"{store_id(connection)} {_where(store)}"
    try:
        with connect(redis_url(settings)) as client:
            there, left = client.register_script(CLAIM)(keys=[KEY], args=[mine, life])
    except (RedisError, NoRedisError, SecretError):
        return
    if (theirs := _told(there))[:ID] != mine[:ID]:
        raise OtherStoreError(mine, theirs, max(1, int(left) // 1000 + 1))


def give_up(settings: "Settings") -> None:
    """Take our word back when a worker ends: others of the same store say it again with the next reconcile."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - redis is loaded only where it is used

    try:
        store = open_store(settings.store, create=False)
        with store.write() as connection:
            mine = store_id(connection)
        store.dispose()
        with connect(redis_url(settings)) as client:
            client.register_script(GIVE_UP)(keys=[KEY], args=[mine])
    except (RedisError, NoRedisError, SecretError, StoreError):
        return  # it runs out by itself


def _where(store: Store) -> str:
    """What kind of store it is, for people, and a file's path: of another URL nothing is told."""
    url = store.engine.url
    path = f" {url.database}" if url.get_backend_name() == "sqlite" else ""
    return f"({url.get_backend_name()}{path})"[:LONGEST]


def _told(value: bytes | str) -> str:
    """What Redis holds, which others can write: no more than a line's worth of it."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return "".join(one if one.isprintable() else "?" for one in text[: LONGEST + ID])
