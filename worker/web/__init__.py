"""What a browser and Prometheus see: /metrics, /healthz and a page that names them. Offers no change of anything."""

from worker.web.server import serve

__all__ = ["serve"]
