"""A service account's key file, and the JWT that it signs. No I/O; no error shows any part of the key."""

import json
from typing import Any, Literal, cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from worker.registries.errors import SignInError


def signed_jwt(key_text: str, where: str, iam: str, now: float) -> str:
    """A JWT (PS256) for the service account of a key file. Raises SignInError, which shows no part of the key."""
    parts = _key_parts(key_text, where)
    claims = {
        "iss": parts["service_account_id"],
        "aud": f"{iam}/iam/v1/tokens",
        "iat": int(now),
        "exp": int(now) + 3600,
    }
    unreadable = f"{where}: private_key cannot be read as an RSA key; make a new key for the service account"
    # The cause is dropped: it may show parts of the key.
    try:
        private_key = cast(RSAPrivateKey, load_pem_private_key(parts["private_key"].encode(), password=None))
        return jwt.encode(claims, private_key, algorithm="PS256", headers={"kid": parts["id"]})  # refuses other kinds
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.PyJWTError):
        raise SignInError(unreadable) from None


def _key_parts(text: str, where: str) -> dict[str, str]:
    names: tuple[Literal["id", "service_account_id", "private_key"], ...] = ("id", "service_account_id", "private_key")
    try:
        parsed: Any = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None  # the error is dropped: it contains the key
    if not isinstance(parsed, dict):
        raise SignInError(f"{where}: not the JSON of a service account key")
    lacking = [name for name in names if not isinstance(parsed.get(name), str) or not parsed[name]]
    if lacking:
        raise SignInError(f"{where}: not the JSON of a service account key: missing {', '.join(lacking)}")
    begin = parsed["private_key"].find("-----BEGIN")  # newer keys begin with a warning not to remove that line
    if begin < 0:
        raise SignInError(f"{where}: private_key has no line -----BEGIN PRIVATE KEY-----")
    return {name: parsed[name] for name in names} | {"private_key": parsed["private_key"][begin:]}
