"""Descriptors of whole configurations: the vectors by which structures are compared."""

from __future__ import annotations

from gapfactory.descriptors.average_soap import average_soap, kernel, vector_length
from gapfactory.descriptors.settings import SimilaritySettings

__all__ = ["SimilaritySettings", "average_soap", "kernel", "vector_length"]
