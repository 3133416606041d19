"""Tests of the whole program, run by `make test-system`: crashes, faults, histories, security, whole runs, parity."""
