"""What drivers share of the Docker Registry API: manifests and token authentication."""
