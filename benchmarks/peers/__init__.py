"""What others wrote for the same work, run beside ours.

Its packages are no part of the product: they are installed the first time that a benchmark asks
for them, and where that cannot be done the comparison is left out and the table says why.
"""
