"""Measurements: `make bench`. docs/benchmarks.md says what they mean and what limits them."""
