"""What auth keeps: the only room with SQL."""
