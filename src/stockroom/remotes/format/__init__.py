"""The files of a remote: bundles, ref states, marks, packs, and `remote.stock`."""
