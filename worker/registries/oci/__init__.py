"""The driver of every registry that speaks the OCI distribution specification."""
