"""What was put back as a table or JSON: each image's answer, and what is missing by its name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from worker.text import counted, escaped, short, table

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from worker.restore.images import Restored
    from worker.restore.restore import Asked

ANSWERS = ("whole", "partly", "lost", "unfinished")

_encoder = msgspec.json.Encoder()


def image_json(one: "Restored") -> dict[str, Any]:
    names = ("repository", "digest", "run", "answer", "tags", "left", "missing", "message")
    return {name: getattr(one, name) for name in names}


def _head(asked: "Asked", found: Sequence["Restored"]) -> dict[str, Any]:
    answers = Counter[str](one.answer for one in found)
    counts = {answer: answers[answer] for answer in ANSWERS}
    return {
        "registry": asked.registry.name,
        "run": asked.run_id,
        **counts,
        "unkept": asked.unkept,
        "restored_by": asked.who,
    }


def restored_json(asked: "Asked", found: Sequence["Restored"]) -> Iterator[bytes]:
    yield _encoder.encode(_head(asked, found)).removesuffix(b"}") + b',"images":['
    for number, one in enumerate(found):
        yield (b",\n" if number else b"\n") + _encoder.encode(image_json(one))
    yield b"]}\n"


def restored_ndjson(asked: "Asked", found: Sequence["Restored"]) -> Iterator[bytes]:
    yield _encoder.encode(_head(asked, found)) + b"\n"
    for one in found:
        yield _encoder.encode(image_json(one)) + b"\n"


def restored_table(asked: "Asked", found: Sequence["Restored"], width: int | None = None) -> Iterator[str]:
    """An image a line, then by name what is missing, how many there are, and what will become of them."""
    heading = ("REPOSITORY", "DIGEST", "TAGS", "ANSWER", "WHAT IS TO SAY")
    rows = [(one.repository, short(one.digest), " ".join(one.tags), one.answer, one.message) for one in found]
    yield from table(heading, rows, width=width)
    for one in found:
        if one.missing:
            yield ""
            yield escaped(f"{one.repository}@{one.digest} misses")
            yield from (escaped(f"  {digest}") for digest in one.missing)
    yield ""
    if asked.who:
        yield escaped(f"Restored by {asked.who}.")
    if asked.unkept:
        yield f"Of {counted(asked.unkept, 'image')} that run {asked.run_id} deleted nothing was kept."
    answers = Counter[str](one.answer for one in found)
    yield ", ".join(f"{answers[answer]:,} {answer}" for answer in ANSWERS if answers[answer]) + "."
    back = [one for one in found if one.answer in ("whole", "partly")]
    if back:
        image = next((f"{one.repository}:{one.tags[0]}" for one in back if one.tags), None)
        image = image or f"{back[0].repository}@{back[0].digest}"
        keeps = f"`registry-gc hold {asked.registry.name} {image}`, for example, keeps it"
        yield escaped(f"The next run selects what is back again, unless its policy is changed: {keeps}.")
