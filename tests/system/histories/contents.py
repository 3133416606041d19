"""What is pushed in histories: contents without bytes, by number or by what they refer to."""

from policies.image import Blob
from tests.support.builders import digest
from tests.support.memory_registry import Content
from tests.support.oci.manifests import INDEX


def plain(number: int) -> Content:
    """An image of three layers, of which it shares two with its neighbours."""
    layers = tuple(Blob(digest(f"layer {at % 7}"), 100 << (at % 7)) for at in range(number, number + 3))
    return Content(digest(f"image {number}"), Blob(digest(f"config {number}"), 7 + number), layers)


def signature(of: str) -> Content:
    """What cosign pushes: an ordinary image, a referrer by its tag."""
    name = f"signature of {of}"
    return Content(digest(name), Blob(digest(f"{name} config"), 3), (Blob(digest(name + " layer"), 5),))


def attached(to: str) -> Content:
    """A referrer by OCI's `subject`, without a config that the listing tells."""
    name = f"attached to {to}"
    return Content(digest(name), None, (Blob(digest(name + " layer"), 11),), subject=to)


def index(children: tuple[str, ...]) -> Content:
    return Content(digest("index of " + " ".join(children)), children=children, media_type=INDEX)
