"""Failures of the machine, such as too little memory: no sample's and no model's fault, they pass wherever others stop.

Other exceptions of a data set or a model are taken as theirs: the sample is left out, the call is explained.
"""

import torch
import torch.distributed as dist

OUT_OF_MEMORY: tuple[type[BaseException], ...] = (MemoryError, torch.OutOfMemoryError)
"""Those for which smaller batches help."""

MACHINE_FAILURES: tuple[type[BaseException], ...] = (
    MemoryError,
    *(
        kind
        for owner, name in ((torch, "OutOfMemoryError"), (torch, "AcceleratorError"), (dist, "DistError"))
        if (kind := getattr(owner, name, None)) is not None
    ),
)
"""Those that this version of torch has."""
