"""Attacks that train reference models, and what they make of the numbers those models give.

``statistics`` holds the input that LiRA, RMIA and difficulty calibration share: one number a sample and model.
``lira``, ``rmia`` and ``difficulty`` turn it into scores; ``patch`` learns from whole loss maps instead. All of
them are functions of arrays and tensors: who trains the reference models, and on what, is no concern of theirs.
Every score is high for likely members.
"""
