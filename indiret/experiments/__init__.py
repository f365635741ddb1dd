"""Experiments on data sets: what a method is worth, by how much, and why to believe it."""
