"""How services reach what is not their own: the vendors (through the egress) and each other."""
