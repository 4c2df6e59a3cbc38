"""Judgement: named phases, energy-volume curves, errors, learning curves, similarity map."""
