"""Is it memorized? Numerics shared by the experiments on what a model can recite."""
