"""The fetch agent: one small process per clone, the only one that contacts remotes when absent bytes are read.

Readers, including DataLoader workers, never use a network client themselves, because one does not survive a fork. They
ask the agent over a local socket (`fetcher`) and start it on demand (`starting`). The agent merges all requests
(`downloads`) and ends a few seconds after its last client (`server`).
"""
