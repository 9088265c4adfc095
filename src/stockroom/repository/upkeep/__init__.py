"""What keeps a repository healthy: gc, verify, repair, and what each part costs."""
