"""What drivers share of the Docker Registry API: manifests and token authentication.

What only the OCI distribution specification has is in `worker.registries.oci`.
"""
