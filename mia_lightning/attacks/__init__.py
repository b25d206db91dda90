"""Attacks with reference models: their training, their errors on audited samples, and what their loss maps teach."""
