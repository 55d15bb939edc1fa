"""Who may come in from the network, and what they may do: key, PIN, sessions, tokens, roles, quotas, audit log.

On a loopback address nothing of this is asked. `docs/access.md` states the threats and what remains.
"""
