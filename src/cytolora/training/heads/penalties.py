"""Penalties of logistic and ridge regression; apart from the heads, for those who load no torch."""

PENALTIES = (1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""To choose from, the strongest first; logistic regression's C is the inverse."""
UNCHOSEN = 1.0
"""Where a class comes from one group only, as with 1 shot, so that none can be chosen; scikit-learn's default."""
