"""The shipped recipes: one folder each with recipe.yaml, data and a README."""
