"""The tie to git: reading its files, following its branch, serving its hooks and merge driver."""
