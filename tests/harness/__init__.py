"""Starts real databases and real gateways for tests, the demo and the benchmark."""
