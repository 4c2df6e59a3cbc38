"""The dashboard: campaigns, structures, queue and workers in a browser."""
