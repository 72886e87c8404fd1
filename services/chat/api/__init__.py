"""Chat's doors for HTTP."""
