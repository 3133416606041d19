"""What tests share: the harness of a night, servers, the simulator, the OCI registry, builders. No tests."""
