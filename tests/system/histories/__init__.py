"""Random histories against the registry in memory."""
