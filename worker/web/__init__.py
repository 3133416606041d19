"""The web process: /metrics, /healthz, an index page, and the trigger API.

It reports on runs and opens them; workers carry them out.
"""

from worker.web.server import serve

__all__ = ["serve"]
