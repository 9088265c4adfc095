"""The fetch agent: one small process per clone, which alone talks to remotes when absent bytes are read.

Readers, DataLoader workers among them, never use a network client themselves: those do not survive a fork. They ask
the agent over a local socket (`fetcher`), which it starts on demand (`starting`); it merges what all of them want
(`stockroom.remotes.agent.downloads`) and is gone a few seconds after its last client (`server`).
"""
