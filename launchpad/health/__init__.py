"""Is everything well, and if not, what to do: the checks of `gapfactory doctor`, and metrics for Prometheus."""
