"""What was put back as a table or JSON: each image's answer, and what is missing by its name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from worker.report.report import Column, Report
from worker.text import counted, escaped, short

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from worker.restore.images import RestoredImage
    from worker.restore.restore import RestoreRequest

ANSWERS = ("whole", "partly", "lost", "unfinished")


def restored_report(asked: "RestoreRequest", found: Sequence["RestoredImage"]) -> Report:
    """An image a row, then by name what is missing, how many there are, and what will become of them."""
    answers = Counter[str](one.answer for one in found)
    head = {"registry": asked.registry.name, "run": asked.run_id, **{answer: answers[answer] for answer in ANSWERS}}
    return Report(
        head=head | {"unkept": asked.unsaved, "restored_by": asked.who},
        key="images",
        rows=found,
        columns=RESTORED,
        below=map(escaped, _below(asked, found, answers)),
    )


RESTORED = (
    Column("REPOSITORY", lambda one: one.repository),
    Column("DIGEST", lambda one: short(one.digest)),
    Column("TAGS", lambda one: " ".join(one.tags)),
    Column("ANSWER", lambda one: one.answer),
    Column("WHAT IS TO SAY", lambda one: one.message),
)


def _below(asked: "RestoreRequest", found: Sequence["RestoredImage"], answers: Counter[str]) -> Iterator[str]:
    for one in found:
        if one.missing:
            yield ""
            yield f"{one.repository}@{one.digest} misses"
            yield from (f"  {digest}" for digest in one.missing)
    yield ""
    if asked.who:
        yield f"Restored by {asked.who}."
    if asked.unsaved:
        yield f"Of {counted(asked.unsaved, 'image')} that run {asked.run_id} deleted nothing was kept."
    yield ", ".join(f"{answers[answer]:,} {answer}" for answer in ANSWERS if answers[answer]) + "."
    back = [one for one in found if one.answer in ("whole", "partly")]
    if back:
        image = next((f"{one.repository}:{one.tags[0]}" for one in back if one.tags), None)
        image = image or f"{back[0].repository}@{back[0].digest}"
        keeps = f"`registry-gc hold {asked.registry.name} {image}`, for example, keeps it"
        yield f"The next run selects what is back again, unless its policy is changed: {keeps}."
