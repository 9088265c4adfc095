"""Readers of the files that `stock export` wrote: they give back the column, with its keys and its exact schema."""
