"""Tests mirror `policies/` and `worker/`: a file has the name of its module. What spans modules is in `system/`."""
