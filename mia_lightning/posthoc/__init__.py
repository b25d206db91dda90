"""Audits of models that are trained already, inside a trainer, so that the model is called as its project calls it."""
