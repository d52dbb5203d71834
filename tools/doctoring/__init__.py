"""Checks of a site, in child processes with time limits."""
