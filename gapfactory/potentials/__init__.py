"""Interatomic potentials: models, fits and calculators."""
