"""The audit: from loaders through one loop to a per-sample table and an :class:`~mia_lightning.AuditResult`."""
