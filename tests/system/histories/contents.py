"""Contents that histories push: without bytes, made from a number or from the digest that they refer to."""

from policies.image import Blob
from tests.support.builders import digest
from tests.support.memory_registry import Content
from tests.support.oci.manifests import INDEX


def plain(number: int) -> Content:
    """An image of three layers, two of which it shares with the images of the neighbouring numbers."""
    layers = tuple(Blob(digest(f"layer {layer % 7}"), 100 << (layer % 7)) for layer in range(number, number + 3))
    return Content(digest(f"image {number}"), Blob(digest(f"config {number}"), 7 + number), layers)


def signature(of: str) -> Content:
    """A signature as cosign pushes it: an ordinary image that only its tag makes a referrer."""
    name = f"signature of {of}"
    return Content(digest(name), Blob(digest(f"{name} config"), 3), (Blob(digest(name + " layer"), 5),))


def attached(to: str) -> Content:
    """A referrer by OCI's `subject`; the listing does not report its config."""
    name = f"attached to {to}"
    return Content(digest(name), None, (Blob(digest(name + " layer"), 11),), subject=to)


def index(children: tuple[str, ...]) -> Content:
    return Content(digest("index of " + " ".join(children)), children=children, media_type=INDEX)
