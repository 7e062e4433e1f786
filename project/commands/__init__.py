"""The commands of the product as a whole; those of a domain stand in the domain."""
