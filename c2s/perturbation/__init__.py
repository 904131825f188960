"""Perturbation response: data and splits, supervised and reinforced models, prediction, evaluation."""
