"""What reads requests from the network: whole, within limits, before Flask sees them."""
