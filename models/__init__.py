"""What can be inspected: models as values, and the catalog that loads them."""
