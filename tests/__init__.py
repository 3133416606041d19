"""Tests mirror `policies/` and `worker/`: a file is named after its module. Tests across modules are in `system/`."""
