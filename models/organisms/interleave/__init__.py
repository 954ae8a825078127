"""Interleave: an organism of two modalities. One small decoder reads pictures and says their captions, and reads captions and paints the pictures.

`draw.py` makes the pictures from a font, `recipe.py` decides the weights, `grow.py` grows them.
"""
