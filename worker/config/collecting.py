"""Reads parts of a file one by one and collects every mistake: what the readers of the file's parts share."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from policies.document import Mistake
from worker.config.connection_urls import ENCODE
from worker.config.document import Model, SecretModel
from worker.config.mistakes import mistake_of
from worker.config.secret import Secret, SecretError

M = TypeVar("M", bound=Model)
V = TypeVar("V")


@dataclass
class Collector:
    """Where the file is, whose environment counts, and what was found wrong so far."""

    path: Path
    environ: Mapping[str, str]
    look_for_secrets: bool
    store_is_needed: bool
    mistakes: list[Mistake] = field(default_factory=list)

    def secret(self, model: SecretModel | None, at: str) -> Secret | None:
        """Where the secret is; a mistake if it cannot be read now."""
        if model is None:
            return None
        if model.file is not None:
            secret = Secret(file=self.path.parent / model.file, environ=self.environ)
        else:
            secret = Secret(env=model.env, environ=self.environ)
        if self.wants_secret(at):
            try:
                secret.read()
            except SecretError as error:
                self.add(at, str(error), "a secret must be there and readable before anything starts")
        return secret

    def url(
        self, value: Any, at: str, read: Callable[[str], str], flaw: Callable[[str], str] | None = None
    ) -> str | Secret | None:
        """A URL that stands in the file, or the secret that holds it, where `flaw` says what is wrong with it."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.value(value, at, read)
        secret = self.secret(self.model(SecretModel, value, at), at)
        if secret is not None and flaw is not None and self.wants_secret(at):
            with suppress(SecretError):  # said by then
                if what := flaw(secret.read()):
                    self.add(at, f"{secret.where} cannot be used: {what}", ENCODE)
        return secret

    def wants_secret(self, at: str) -> bool:
        """Whether the secret at this key is to be read now."""
        return self.look_for_secrets or (self.store_is_needed and at == "store")

    def value(self, value: Any, at: str, read: Callable[[Any], V]) -> V | None:
        """What `read` makes of a value; None after a mistake."""
        try:
            return read(value)
        except PydanticCustomError as error:
            context = error.context or {}
            self.add(at, context["what"], context["remedy"])
            return None

    def model(self, kind: type[M], tree: Any, at: str, said_elsewhere: set[str] | None = None) -> M | None:
        """The mapping as a model; with mistakes, as much of it as is right, None if too little is."""
        try:
            return kind.model_validate(tree)
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            missing_by_a_mistake = detail["type"] == "missing" and detail["loc"][-1] in (said_elsewhere or ())
            if not missing_by_a_mistake:
                self.mistakes.append(mistake_of(detail, kind, at))
        if not isinstance(tree, dict):
            return None
        wrong = {detail["loc"][0] for detail in details if detail["loc"]}
        try:
            return kind.model_validate({key: value for key, value in tree.items() if key not in wrong})
        except ValidationError:
            return None

    def add(self, at: str, what: str, remedy: str = "") -> None:
        self.mistakes.append(Mistake(at, what, remedy))
