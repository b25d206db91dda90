"""Audits of a model's stored outputs, for those who do not hold the model."""
