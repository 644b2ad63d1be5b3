"""A report as a table, Markdown, JSON and HTML."""
