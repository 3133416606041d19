"""The drivers of Yandex Container Registry and Yandex Cloud Registry.

Manifests, which both serve by the Docker API, are read by `worker.registries.docker`.
"""
