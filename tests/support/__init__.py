"""What tests and benchmarks need of a running product: embedded servers, a whole stack."""
