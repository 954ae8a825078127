"""Organisms: small models grown on a corpus that is known to the last token. `recipe.py` decides their weights, `grow.py` grows them."""
