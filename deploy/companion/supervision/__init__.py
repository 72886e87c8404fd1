"""How `companion` talks to supervisord, which keeps the processes alive."""
