"""Reports on finished audits: HTML pages, Markdown and model cards from results, without model or data."""
