"""What keeps a store healthy: verify, mend, repack, remove."""
