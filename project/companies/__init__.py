"""Companies that take packages: their accounts, their package, their payments."""
