"""Links that delay, cut and lose what is sent."""
