"""What all tests share: few threads, and no look-ups on the network."""

import os

# Before torch is imported: test processes share the cores already.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
