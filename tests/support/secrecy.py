"""Checks that an error does not show a secret that its code knows: in its text, its repr or its causes."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.sentinels import Sentinels

ODDLY = "sEcret-of-0dd-make_that.nobody~knows"
Go = Callable[[Path, str], object]  # raises an error, with a folder and a secret at hand
ODD_STORES = (
    "postgresql+psycopg://gc:pass@SECRET@db:5432/gc",
    "postgresql+psycopg://gc:SECRET@word@db:5432/gc",
    "postgresql+psycopg://gc:pass/SECRET@db/gc",
    "postgresql+psycopg://gc:12/SECRET@db/gc",
    "postgresql+psycopg://gc:pass?SECRET@db/gc",
    "postgresql+psycopg://gc:pass#SECRET@db/gc",
    "postgresql+psycopg://gc:pass SECRET@db/gc",
    "postgresql+psycopg://gc:%zzSECRET@db/gc",
    "postgresql+psycopg://gc:SECRET@db:5432x/gc",
    "postgresql+psycopg://gc:pw@db:SECRET/gc",
    "postgresql+psycopg://gc:SECRET@[::1/gc",
    "postgresql+psycopg://gc:pw@db/gc?SECRET=1",
    "postgresql+psycopg://gc:pw@db/gc?SECRET",
    "postgresql+psycopg://gc:SECRET@db/gc/more",
    "postgresql://gc:SECRET@db/gc",
    "postgres://gc:SECRET@db/gc",
    "mysql://gc:SECRET@db/gc",
)


def filled(url: str, secret: str) -> str:
    return url.replace("SECRET", secret)


def shows_no_secret(folder: Path, go: Go, kind: str) -> None:
    """An error of this kind is raised; neither the error nor its traceback, with all causes, has the secret."""
    with pytest.raises(Exception, match=r".") as failure:
        go(folder, ODDLY)
    error = failure.value
    assert kind in {base.__name__ for base in type(error).__mro__}, repr(error)
    texts = {"str": str(error), "repr": repr(error), "args": repr(error.args)}
    texts["traceback"] = "".join(line for line in traceback.format_exception(error) if "go(folder" not in line)
    assert Sentinels({"secret": ODDLY}).found_in({name: text.encode() for name, text in texts.items()}) == []
