"""LightningModules that train while they are audited.

``pix2pix.Pix2Pix``, ``pix2pix_hd.Pix2PixHD`` and ``spade.SPADE`` translate images; ``gan_translator`` has the steps
that they share, ``feature_matching`` the objective of the last two. ``unet_segmenter.UNetSegmenter`` labels pixels, by
the classic U-Net or a network of the ``zoo``. ``losses`` holds what they minimise, as pure functions.
"""
