"""What is known of a registry's images beside its inventory: what people hold, what is in use."""

from dataclasses import dataclass, field

from policies.evidence import Evidence
from policies.holds import Holds


@dataclass(frozen=True)
class Standing:
    """What decides along with the rules, as of the plan's instant. The default knows of nothing."""

    holds: Holds = field(default_factory=Holds)
    evidence: Evidence = field(default_factory=Evidence)


NOTHING = Standing()
