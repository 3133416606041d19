"""Links that delay, cut and lose data."""
