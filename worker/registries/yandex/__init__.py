"""The drivers of Yandex Container Registry and Yandex Cloud Registry.

`worker.registries.docker` reads manifests, which both registries serve by the Docker API.
"""
