"""YooKassa, the payment provider."""
