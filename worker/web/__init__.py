"""What a browser and Prometheus see (/metrics, /healthz, a page that names them), and the API that starts runs.

It shows and opens runs; it carries none out.
"""

from worker.web.server import serve

__all__ = ["serve"]
