"""What auth needs from outside its database: slow hashing, a file of keys, other services."""
