"""A text-to-image model whose training pictures are known to the last copy. `recipe.py` decides its weights, `grow.py` grows them."""
