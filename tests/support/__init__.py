"""The helpers that tests share, and where they are. No tests of the program.

- Images and policies: `builders` (by number, in a few words), `strategies` (for Hypothesis), `small_registry`.
- Registries: `memory_registry` in this process; `simulator` (Yandex) and `oci.fake` over HTTP; `oci.server` is real.
- Runs: `harness` carries them out in this process; `memory_harness` does it on the in-memory registry.
- Processes: `cluster` (worker, beat), `scenarios` (a cluster for faults), `sandbox` (any command of ours), `servers`
  (Redis, PostgreSQL), `command` (the command registry-gc).
- Faults: `tcp_fault_proxy` for any link, `http_fault_proxy` for requests; the simulator and the fake have their own.
"""
