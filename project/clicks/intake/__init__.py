"""The webhook: signatures, validation, one commit for the clicks that arrive together."""
