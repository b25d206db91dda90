"""Attacks with reference models: their training, their errors on audited samples, and what their loss maps teach.

The scores made of their statistics (LiRA, RMIA, difficulty calibration) are in :mod:`mia_lightning.scores`.
"""
