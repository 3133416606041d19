"""Secrets stay secret, and messages of an attacker delete nothing."""
