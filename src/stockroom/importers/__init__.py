"""Importers: plug-ins that read other people's files into columns of the data shelf."""
