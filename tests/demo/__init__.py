"""`make demo`: the main job, shown on a simulated registry."""
