"""Checkpoints: trained weights, the arguments and the audits stored beside them, read without unpickling anything."""
