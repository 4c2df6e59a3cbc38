"""Compiled evaluation of Gaussian approximation potentials: neighbours, terms, and their sum."""
