"""Images: the product's own, and stand-ins for others' where none can be pulled."""
