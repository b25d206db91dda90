"""Lightning callbacks: when to audit, what to log, what the checkpoint keeps."""
