"""Rows: a config a published network and data set, its recipe as the argument."""
