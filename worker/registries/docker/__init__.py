"""Manifests and token authentication of the Docker Registry API, for several drivers.

`worker.registries.oci` has the rest of the OCI distribution specification.
"""
