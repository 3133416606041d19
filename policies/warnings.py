"""What a person should know about a plan before they trust it. A warning changes no verdict."""

from msgspec import Struct


class PlanWarning(Struct, frozen=True):
    """One remark on a plan: `code` is a constant word of its kind, `message` a sentence with the facts and a remedy."""

    code: str
    message: str
