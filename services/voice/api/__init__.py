"""Voice's doors for HTTP."""
