"""Messages: made once a day for whoever has paid, sent by gateways, followed by receipts."""
