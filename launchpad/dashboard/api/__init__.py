"""The same data and actions for programs, as JSON."""
