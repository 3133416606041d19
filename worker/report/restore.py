"""The result of a restore as a table or JSON: each image's answer, and the digests that are missing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from worker.report.report import Column, Report
from worker.text import counted, escaped, short

if TYPE_CHECKING:  # the store imports SQLAlchemy
    from worker.restore.images import RestoredImage
    from worker.restore.restore import RestoreRequest

ANSWERS = ("whole", "partly", "lost", "unfinished")


def restored_report(asked: "RestoreRequest", images: Sequence["RestoredImage"]) -> Report:
    """One image per row, then the missing digests, the counts, and the effect of the next run."""
    answers = Counter[str](image.answer for image in images)
    head = {"registry": asked.registry.name, "run": asked.run_id, **{answer: answers[answer] for answer in ANSWERS}}
    columns = (
        Column("REPOSITORY", lambda image: image.repository),
        Column("DIGEST", lambda image: short(image.digest)),
        Column("TAGS", lambda image: " ".join(image.tags)),
        Column("ANSWER", lambda image: image.answer),
        Column("DETAIL", lambda image: image.message),
    )
    return Report(
        head=head | {"unkept": asked.unsaved, "restored_by": asked.who},
        key="images",
        rows=images,
        columns=columns,
        below=map(escaped, _summary(asked, images, answers)),
    )


def _summary(asked: "RestoreRequest", images: Sequence["RestoredImage"], answers: Counter[str]) -> Iterator[str]:
    for image in images:
        if image.missing:
            yield ""
            yield f"Missing from {image.repository}@{image.digest}:"
            yield from (f"  {digest}" for digest in image.missing)
    yield ""
    if asked.who:
        yield f"Restored by {asked.who}."
    if asked.unsaved:
        yield f"Run {asked.run_id} deleted {counted(asked.unsaved, 'image')} without saving a manifest."
    yield (", ".join(f"{answers[answer]:,} {answer}" for answer in ANSWERS if answers[answer]) or "No images") + "."
    restored = [image for image in images if image.answer in ("whole", "partly")]
    if restored:
        reference = next((f"{image.repository}:{image.tags[0]}" for image in restored if image.tags), None)
        reference = reference or f"{restored[0].repository}@{restored[0].digest}"
        command = f"`registry-gc hold {asked.registry.name} {reference}`"
        yield f"The next run selects restored images again. To keep one, change the policy or hold it, as in {command}."
